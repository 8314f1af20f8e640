// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"berth/gpu/rootfs"
)

// driverDir is where a caller would have the driver's libraries mounted.
const driverDir = "/usr/local/nvidia/lib64"

// image is a root file system with the host's glibc and a program that loads
// libraries by name, made by the host's compiler.
type image struct {
	*testing.T
	dir string
}

// native is the platform of this machine.
func native(t *testing.T) platform {
	for _, pl := range platforms() {
		if pl.musl == map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] {
			return pl
		}
	}
	t.Skipf("needs amd64 or arm64, found %s", runtime.GOARCH)
	return platform{}
}

// probe says what each library named on its command line is, or why it cannot.
const probe = `
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		void *h = dlopen(argv[i], RTLD_NOW);
		const char *(*who)(void) = h ? dlsym(h, "who") : 0;
		printf("%s\n", who ? who() : "missing");
	}
	return 0;
}`

func newGlibcImage(t *testing.T) image {
	t.Helper()
	im := newEmptyImage(t)
	pl := native(t)
	im.write("/probe.c", probe)
	im.cc("-o", im.at("/probe"), im.at("/probe.c"))
	im.copy(pl.glibc, pl.glibc)
	out, err := exec.Command("cc", "-print-file-name=libc.so.6").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Where Debian's loader looks without a cache.
	im.copy(strings.TrimSpace(string(out)), "/lib/"+pl.musl+"-linux-gnu/libc.so.6")
	return im
}

func newEmptyImage(t *testing.T) image {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	return image{T: t, dir: t.TempDir()}
}

func (im image) at(p string) string { return filepath.Join(im.dir, p) }

func (im image) must(err error) {
	im.Helper()
	if err != nil {
		im.Fatal(err)
	}
}

func (im image) write(p, content string) {
	im.Helper()
	im.must(os.MkdirAll(filepath.Dir(im.at(p)), 0o755))
	im.must(os.WriteFile(im.at(p), []byte(content), 0o755))
}

func (im image) copy(from, to string) {
	im.Helper()
	data, err := os.ReadFile(from)
	im.must(err)
	im.write(to, string(data))
}

func (im image) link(target, p string) {
	im.Helper()
	im.must(os.MkdirAll(filepath.Dir(im.at(p)), 0o755))
	im.must(os.Symlink(target, im.at(p)))
}

func (im image) cc(args ...string) {
	im.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		im.Skip("needs a C compiler, cc")
	}
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		im.Fatalf("cc %v: %v\n%s", args, err, out)
	}
}

// library makes a shared library in the image that says who it is.
func (im image) library(p, soname, who string) {
	im.Helper()
	source := filepath.Join(im.TempDir(), "lib.c")
	im.must(os.WriteFile(source, fmt.Appendf(nil, "const char *who(void) { return %q; }", who), 0o644))
	im.must(os.MkdirAll(filepath.Dir(im.at(p)), 0o755))
	im.cc("-shared", "-fPIC", "-nostdlib", "-Wl,-soname,"+soname, "-o", im.at(p), source)
}

// says runs the probe in the image.
func (im image) says(sonames ...string) string {
	im.Helper()
	cmd := exec.Command("/probe", sonames...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: im.dir}
	cmd.Dir, cmd.Env = "/", []string{}
	out, err := cmd.CombinedOutput()
	if err != nil {
		im.Fatalf("probe: %v\n%s", err, out)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

func (im image) wants(want string, sonames ...string) {
	im.Helper()
	if got := im.says(sonames...); got != want {
		im.Errorf("the loader found %q for %v, want %q", got, sonames, want)
	}
}

// ldconfig runs the host's ldconfig on the image.
func (im image) ldconfig(args ...string) string {
	im.Helper()
	if _, err := exec.LookPath("ldconfig"); err != nil {
		im.Skip("needs ldconfig")
	}
	out, err := exec.Command("ldconfig", append([]string{"-r", im.dir}, args...)...).CombinedOutput()
	if err != nil {
		im.Fatalf("ldconfig %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (im image) root() *rootfs.Root {
	im.Helper()
	root, err := rootfs.Open(im.dir, 0, 0)
	im.must(err)
	im.Cleanup(func() { root.Close() })
	return root
}

func (im image) install(cfg Config) *Plan {
	im.Helper()
	p, err := Install(im.root(), cfg)
	im.must(err)
	return p
}

// config is the driver's libraries of a version in driverDir: libcuda and one that
// only this version has.
func config(t *testing.T, version string) Config {
	abi := native(t).abi
	return Config{
		Dirs: []Dir{{driverDir, abi}},
		Libraries: []Library{
			{"libcuda.so.1", driverDir + "/libcuda.so." + version, abi},
			{"libonly.so." + version, driverDir + "/libonly.so." + version, abi},
		},
	}
}

// mounted calls f while the libraries of a version are in driverDir.
func (im image) mounted(version string, f func()) {
	im.Helper()
	im.library(driverDir+"/libcuda.so."+version, "libcuda.so.1", "driver-"+version)
	im.library(driverDir+"/libonly.so."+version, "libonly.so."+version, "only-"+version)
	f()
	im.must(os.RemoveAll(im.at(driverDir)))
}

// tree lists all that is below a directory, with what it is and when it changed.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		st, statErr := os.Lstat(p)
		if err = errors.Join(err, statErr); err == nil {
			all = append(all, fmt.Sprint(p, st.Mode(), st.Size(), st.ModTime().UnixNano()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clip(all)
}
