// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each library is an ELF file of its class whose SONAME resolves, next to it, to itself.
func TestLibraries(t *testing.T) {
	for name, c := range map[string]struct {
		cfg      Config
		dir, not string
		has      []string
	}{
		"debian": {cfg: Config{NVSwitch: true}, dir: "usr/lib/x86_64-linux-gnu", has: []string{"libcuda.so.570.124.06", "libcuda.so.1",
			"libnvidia-nscq.so.2", "vdpau/libvdpau_nvidia.so.1", "gbm/nvidia-drm_gbm.so", "nvidia/xorg/libglxserver_nvidia.so"},
			not: "libnvidia-nvvm70.so.4"},
		"rhel":            {cfg: Config{Lib64: true}, dir: "usr/lib64", has: []string{"libcuda.so"}, not: "libnvidia-nscq.so.2"},
		"32-bit":          {cfg: Config{Compat32: true}, dir: "usr/lib/i386-linux-gnu", has: []string{"libcuda.so.1"}, not: "libnvoptix.so.1"},
		"32-bit, rhel":    {cfg: Config{Compat32: true, Lib64: true}, dir: "usr/lib", has: []string{"libcuda.so.1"}, not: "libnvoptix.so.1"},
		"580":             {cfg: Config{Version: "580.65.06"}, dir: "usr/lib/x86_64-linux-gnu", has: []string{"libnvidia-nvvm70.so.4"}},
		"535":             {cfg: Config{Version: "535.129.03"}, dir: "usr/lib/x86_64-linux-gnu", has: []string{"libnvidia-vulkan-producer.so"}, not: "libnvidia-gpucomp.so.535.129.03"},
		"other libraries": {cfg: Config{LibVersion: "550.54.14"}, dir: "usr/lib/x86_64-linux-gnu", has: []string{"libcuda.so.550.54.14"}, not: "libcuda.so.570.124.06"},
	} {
		t.Run(name, func(t *testing.T) {
			d := build(t, c.cfg)
			dir := filepath.Join(d.Root, c.dir)
			for _, want := range c.has {
				if _, err := os.Stat(filepath.Join(dir, want)); err != nil {
					t.Error(err)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, c.not)); c.not != "" && err == nil {
				t.Errorf("%s is there", c.not)
			}
			seen := 0
			err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
				if err != nil || strings.Contains(strings.TrimPrefix(path, dir), "-linux-gnu") {
					return err
				}
				if e.Type().IsRegular() && strings.Contains(e.Name(), ".so") {
					seen++
					checkLibrary(t, path, c.cfg.Compat32)
				}
				return nil
			})
			if err != nil || seen < 15 {
				t.Errorf("only %d libraries: %v", seen, err)
			}
		})
	}
}

func checkLibrary(t *testing.T, path string, is32 bool) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	defer f.Close()
	want := elf.EM_X86_64
	if is32 {
		want = elf.EM_386
	}
	soname, err := f.DynString(elf.DT_SONAME)
	if err != nil || len(soname) != 1 || f.Machine != want || f.Type != elf.ET_DYN {
		t.Errorf("%s: %v %v, SONAME %q: %v", path, f.Machine, f.Type, soname, err)
		return
	}
	to, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(path), soname[0]))
	if err != nil || to != path {
		t.Errorf("%s: its SONAME %s leads to %s: %v", path, soname[0], to, err)
	}
}

// The cache is that of the real ldconfig, and ldconfig, run without -X as package scripts do,
// finds nothing to add to the links or to change.
func TestLoaderCache(t *testing.T) {
	d := build(t, Config{Compat32: true})
	cache := output(t, "/sbin/ldconfig", "-r", d.Root, "-p")
	for _, want := range []string{
		`(?m)^\tlibcuda\.so\.1 \(libc6,x86-64\) => /lib/x86_64-linux-gnu/libcuda\.so\.1$`,
		`(?m)^\tlibcuda\.so\.1 \(libc6\) => /lib/i386-linux-gnu/libcuda\.so\.1$`,
		`(?m)^\tlibnvidia-glcore\.so\.570\.124\.06 \(libc6,x86-64\) => `,
		`(?m)^\tlibnvidia-ml\.so \(libc6,x86-64\) => `,
		`(?m)^\tlibOpenCL\.so\.1 \(libc6,x86-64\) => `,
	} {
		if !regexp.MustCompile(want).MatchString(cache) {
			t.Errorf("the cache has no %s:\n%s", want, cache)
		}
	}
	if strings.Contains(cache, "libvdpau_nvidia") {
		t.Error("the cache has libvdpau_nvidia, whose directory loaders do not search")
	}
	before := links(t, d, "usr/lib")
	if out := output(t, "/sbin/ldconfig", "-r", d.Root); out != "" {
		t.Errorf("ldconfig: %s", out)
	}
	if after := links(t, d, "usr/lib"); !maps.Equal(before, after) {
		t.Errorf("ldconfig changed the links from %v to %v", before, after)
	}
	for path := range before {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

const dlopenProgram = `
#include <dlfcn.h>
#include <stdio.h>
int main(int n, char **names) {
	for (int i = 1; i < n; i++)
		if (!dlopen(names[i], RTLD_NOW)) { puts(dlerror()); return 1; }
	void *cuda = dlopen("libcuda.so.1", RTLD_NOW), *ml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	if (!cuda || !ml) { puts(dlerror()); return 1; }
	int (*init)(int) = dlsym(cuda, "cuInit"), (*version)(int *) = dlsym(cuda, "cuDriverGetVersion"), v = 0;
	int (*nvml)(void) = dlsym(ml, "nvmlInit_v2");
	const char *(*text)(int) = dlsym(ml, "nvmlErrorString");
	if (!init || !version || !nvml || !text) { puts(dlerror()); return 1; }
	int a = init(0), b = version(&v);
	printf("%d %d %d %d %s\n", a, b, v, nvml(), text(9));
	return 0;
}`

// The loader of the machine itself, in the fake root, opens every library by its SONAME with
// no help but the cache, and the functions run.
func TestDlopen(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc: no program to call dlopen")
	}
	d := build(t, Config{NVSwitch: true})
	dir := t.TempDir()
	source := filepath.Join(dir, "dlopen.c")
	if err := os.WriteFile(source, []byte(dlopenProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, "gcc", "-o", filepath.Join(d.Root, "dlopen"), source, "-ldl")
	loader, libc := "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"
	for _, file := range []string{loader, libc} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Skipf("no glibc for x86-64 where Debian has it: %v", err)
		}
		if err := os.WriteFile(filepath.Join(d.Root, file), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output(t, "/sbin/ldconfig", "-r", d.Root)
	args := []string{d.Root, "/dlopen"}
	for _, l := range append(libraries(), bystanders()...) {
		if l.soname != "" && !strings.Contains(l.file, "/") {
			args = append(args, l.soname)
		}
	}
	if len(args) < 25 {
		t.Fatalf("only %v", args)
	}
	if out := output(t, "chroot", args...); out != "0 0 12080 9 Driver Not Loaded\n" {
		t.Errorf("in the fake root: %s", out)
	}
}

// A better fake of NVML takes the place of the built-in one.
func TestReplaceNVML(t *testing.T) {
	other := filepath.Join(t.TempDir(), "libnvidia-ml.so")
	if err := os.WriteFile(other, object{bits: 64, soname: "libnvidia-ml.so.1", needed: []string{"libc.so.6"},
		symbols: []symbol{{"nvmlBetter", []byte{0xc3}}}}.bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	d := build(t, Config{NVML: other})
	f, err := elf.Open(filepath.Join(d.Root, d.LibDir, "libnvidia-ml.so"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil || !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "nvmlBetter" }) {
		t.Errorf("symbols %v: %v", symbols, err)
	}
}

func TestCUDA(t *testing.T) {
	for version, want := range map[string]string{"570.124.06": "12.8 12080", "535.129.03": "12.2 12020", "580.65.06": "13.0 13000", "560.35.03": "12.6 12060"} {
		if got := fmt.Sprint(cudaOf(version), " ", cudaNumber(cudaOf(version))); got != want {
			t.Errorf("%s: CUDA %s, want %s", version, got, want)
		}
	}
}
