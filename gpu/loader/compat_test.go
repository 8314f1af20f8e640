// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const compatDir = "/usr/local/cuda/compat"

func compatConfig(t *testing.T, driver string, allowed bool) Config {
	cfg := config(t, driver)
	cfg.Compat = Compat{Dirs: []string{"/nowhere", compatDir}, Driver: driver, Allowed: allowed}
	return cfg
}

// cuda gives the image what a package cuda-compat has, behind the usual link.
func (im image) cuda(version string) {
	im.Helper()
	im.link("cuda-12.9", "/usr/local/cuda")
	im.library("/usr/local/cuda-12.9/compat/libcuda.so."+version, "libcuda.so.1", "compat")
	im.library("/usr/local/cuda-12.9/compat/libextra.so."+version, "libextra.so.1", "extra")
	im.link("libcuda.so."+version, "/usr/local/cuda-12.9/compat/libcuda.so.1")
}

func TestForwardCompatibility(t *testing.T) {
	for name, c := range map[string]struct {
		version, driver, line string
		allowed, used         bool
	}{
		"newer":       {"575.57.08", "550.1", "is newer than the host's 550.1", true, true},
		"same major":  {"550.99", "550.1", "is not newer", true, false},
		"older":       {"99.99", "550.1", "is not newer", true, false},
		"not allowed": {"575.57.08", "550.1", "", false, false},
		"host odd":    {"575.57.08", "x", "is not known", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			im := newGlibcImage(t)
			im.cuda(c.version)
			im.write("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
			im.ldconfig()
			cfg := compatConfig(t, c.driver, c.allowed)
			p := im.install(cfg)
			if (p.Compat == compatDir) != c.used || !strings.Contains(strings.Join(p.Lines, "\n"), c.line) {
				t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
			}
			want := map[bool]string{true: "compat extra", false: "driver-" + c.driver + " missing"}[c.used]
			im.mounted(c.driver, func() {
				im.wants(want, "libcuda.so.1", "libextra.so.1")
				im.ldconfig()
				im.wants(want, "libcuda.so.1", "libextra.so.1")
			})
		})
	}
}

func TestForwardCompatibilityTwiceAndNoMore(t *testing.T) {
	im := newGlibcImage(t)
	im.cuda("575.57.08")
	im.install(compatConfig(t, "550.1", true))
	if p := im.install(compatConfig(t, "550.1", true)); len(p.Files) != 0 {
		t.Errorf("the second time: %v", p.Lines)
	}
	im.install(compatConfig(t, "580.1", true))
	im.mounted("580.1", func() { im.wants("driver-580.1", "libcuda.so.1") })
}

func TestForwardCompatibilityWithMusl(t *testing.T) {
	im := newEmptyImage(t)
	pl := native(t)
	im.write("/lib/ld-musl-"+pl.musl+".so.1", "loader")
	im.cuda("575.57.08")
	p := im.install(compatConfig(t, "550.1", true))
	if len(p.Files) != 1 || !strings.HasPrefix(string(p.Files[0].Data), compatDir+"\n"+driverDir+"\n/lib\n") {
		t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
	}
}

// The host has a newer libcuda in a directory to which the image's link leads. It
// is not read, not named, and nothing of the plan is a mount.
func TestCVE_2024_0132_CompatDirectoryThatLeadsToTheHost(t *testing.T) {
	for name, target := range map[string]func(host string) string{
		"absolute":      func(host string) string { return host },
		"climbing":      func(host string) string { return strings.Repeat("../", 40) + host[1:] },
		"through proc":  func(host string) string { return "/proc/self/root" + host },
		"link of links": func(string) string { return "/usr/local/hop" },
	} {
		t.Run(name, func(t *testing.T) {
			im, host := newGlibcImage(t), newEmptyImage(t)
			host.cuda("999.1")
			im.link(target(host.at("/usr/local/cuda-12.9/compat")), compatDir)
			im.link(host.at("/usr/local/cuda-12.9/compat"), "/usr/local/hop")
			before := tree(t, host.dir)
			p := im.install(compatConfig(t, "550.1", true))
			if all := strings.Join(p.Lines, "\n"); p.Compat != "" || strings.Contains(all, "999.1") || strings.Contains(all, host.dir) {
				t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
			}
			im.mounted("550.1", func() { im.wants("driver-550.1", "libcuda.so.1") })
			if !slices.Equal(tree(t, host.dir), before) {
				t.Error("the host's directory was changed")
			}
		})
	}
}

// The directory is the image's, the library in it is not: a link to the host, a
// FIFO, a device; or it is no library.
func TestCVE_2025_23359_CompatLibraryThatIsNotTheImages(t *testing.T) {
	for name, create := range map[string]func(im image, p string){
		"link to the host": func(im image, p string) {
			host := newEmptyImage(im.T)
			host.cuda("999.1")
			im.link(host.at("/usr/local/cuda-12.9/compat/libcuda.so.999.1"), p)
		},
		"loop":     func(im image, p string) { im.link(filepath.Base(p), p) },
		"FIFO":     func(im image, p string) { im.must(unix.Mkfifo(im.at(p), 0o644)) },
		"zeros":    func(im image, p string) { im.must(unix.Mknod(im.at(p), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5)))) },
		"no ELF":   func(im image, p string) { im.write(p, "#!/bin/sh\n") },
		"a soname": func(im image, p string) { im.library(p, "../../etc/x", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			im := newGlibcImage(t)
			im.write(compatDir+"/README", "")
			create(im, compatDir+"/libcuda.so.999.1")
			p := im.install(compatConfig(t, "550.1", true))
			if p.Compat != "" || !strings.Contains(strings.Join(p.Lines, "\n"), compatDir+": not used") {
				t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
			}
			im.mounted("550.1", func() { im.wants("driver-550.1", "libcuda.so.1") })
		})
	}
}

func TestCompatNamesAreNotBelieved(t *testing.T) {
	im := newGlibcImage(t)
	for _, name := range []string{"libcuda.so.999\n/evil", "libcuda.so.999;x", "libcuda.so.", "libcuda.so.1", "libcuda.so.99999999999999999999.1"} {
		im.library(compatDir+"/"+name, "libcuda.so.1", "x")
	}
	if p := im.install(compatConfig(t, "550.1", true)); p.Compat != "" {
		t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
	}
}
