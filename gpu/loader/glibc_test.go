// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// own gives the image libraries of its own: one that only its cache knows, one
// with a variant for better processors, and a libcuda of a stub package.
func (im image) own() {
	im.write("/etc/ld.so.conf", "# the image's\n/opt/lib\ninclude /etc/ld.so.conf.d/*.conf\n")
	im.library("/opt/lib/libown.so.1", "libown.so.1", "own")
	im.library("/opt/lib/libcuda.so.1", "libcuda.so.1", "stub")
	im.library("/opt/lib/libhw.so.1", "libhw.so.1", "plain")
	for _, better := range []string{"x86-64-v2", "atomics"} { // of amd64 and arm64
		im.library("/opt/lib/glibc-hwcaps/"+better+"/libhw.so.1", "libhw.so.1", "better")
	}
}

func TestGlibcFindsTheLibraries(t *testing.T) {
	for _, format := range []string{"new", "compat", "old"} {
		t.Run("cache in format "+format, func(t *testing.T) {
			im := newGlibcImage(t)
			im.own()
			im.ldconfig("-c", format)
			im.wants("missing stub own", "libonly.so.550.1", "libcuda.so.1", "libown.so.1")
			// In the format compat, glibc does not find the names of variants that it wrote.
			hw := map[string]string{"new": "better", "compat": "better", "old": im.says("libhw.so.1")}[format]
			before := paths(im.ldconfig("-p"))

			im.install(config(t, "550.1"))
			im.mounted("550.1", func() {
				check := func() {
					im.Helper()
					im.wants("only-550.1 driver-550.1 own "+hw, "libonly.so.550.1", "libcuda.so.1", "libown.so.1", "libhw.so.1")
					after := im.ldconfig("-p")
					for _, p := range before {
						if !slices.Contains(paths(after), p) {
							t.Errorf("lost: %s", p)
						}
					}
					if n := strings.Count(after, driverDir); n != 2 {
						t.Errorf("%d entries of the driver's in %s", n, after)
					}
				}
				check()
				im.ldconfig()
				hw = "better"
				check()
			})
		})
	}
}

// paths are those that ldconfig -p lists.
func paths(listed string) []string {
	var all []string
	for line := range strings.Lines(listed) {
		if _, p, ok := strings.Cut(line, "=> "); ok {
			all = append(all, strings.TrimSpace(p))
		}
	}
	return all
}

func TestGlibcWithoutAUsableCache(t *testing.T) {
	for name, content := range map[string]string{"none": "", "garbage": "no cache at all\n", "empty": " "} {
		t.Run(name, func(t *testing.T) {
			im := newGlibcImage(t)
			if content != "" {
				im.write("/etc/ld.so.cache", strings.TrimSpace(content))
			}
			im.wants("missing", "libonly.so.550.1")
			p := im.install(config(t, "550.1"))
			if !slices.Equal(p.Loaders, []string{"glibc"}) || len(p.Files) != 3 {
				t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
			}
			im.mounted("550.1", func() {
				im.wants("only-550.1 driver-550.1", "libonly.so.550.1", "libcuda.so.1")
				im.ldconfig()
				im.wants("only-550.1 driver-550.1", "libonly.so.550.1", "libcuda.so.1")
			})
		})
	}
}

func TestInstallTwiceChangesNothing(t *testing.T) {
	im := newGlibcImage(t)
	im.own()
	im.write("/etc/ld.so.conf", "/opt/lib # and no include\n")
	im.ldconfig()
	im.install(config(t, "550.1"))
	before := tree(t, im.dir)
	p := im.install(config(t, "550.1"))
	if len(p.Files) != 0 || !slices.Equal(tree(t, im.dir), before) {
		t.Errorf("the second time: %v", p.Lines)
	}
	if conf, _ := os.ReadFile(im.at(confPath)); string(conf) != "include "+ConfFile+"\n/opt/lib # and no include\n" {
		t.Errorf("ld.so.conf: %s", conf)
	}
}

func TestAnotherDriverReplacesTheFirst(t *testing.T) {
	im := newGlibcImage(t)
	im.own()
	im.library(driverDir+"/libkept.so.1", "libkept.so.1", "kept") // the image's, in our directory
	im.write("/etc/ld.so.conf", "/opt/lib\n"+driverDir+"\n")
	im.ldconfig()
	im.install(config(t, "550.1"))
	im.write(driverDir+"/libonly.so.550.1", "") // a runtime mounted a file on it
	im.install(config(t, "560.2"))
	listed := im.ldconfig("-p")
	if strings.Contains(listed, "550.1") || !strings.Contains(listed, "/libcuda.so.560.2") || !strings.Contains(listed, "libkept.so.1") {
		t.Errorf("after another driver: %s", listed)
	}
	im.mounted("560.2", func() { im.wants("driver-560.2 own", "libcuda.so.1", "libown.so.1") })
}

func TestBrokenCacheIsNotReplaced(t *testing.T) {
	im := newGlibcImage(t)
	im.own()
	im.ldconfig()
	cache, err := os.ReadFile(im.at(cachePath))
	im.must(err)
	for name, broken := range map[string]string{
		"cut off":         string(cache[:60]),
		"another version": strings.Replace(string(cache), "cache1.1", "cache2.0", 1),
	} {
		t.Run(name, func(t *testing.T) {
			im.write(cachePath, broken)
			before := tree(t, im.dir)
			_, err := Install(im.root(), config(t, "550.1"))
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "run ldconfig") {
				t.Errorf("error: %v", err)
			}
			if !slices.Equal(tree(t, im.dir), before) {
				t.Error("something was written")
			}
		})
	}
}

func TestImageWithoutALoaderIsLeftAlone(t *testing.T) {
	im := newEmptyImage(t)
	im.write("/app", "static")
	before := tree(t, im.dir)
	p := im.install(config(t, "550.1"))
	if len(p.Files)+len(p.Loaders) != 0 || len(p.Lines) != 1 || !strings.Contains(p.Lines[0], "nothing is written") {
		t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
	}
	if !slices.Equal(tree(t, im.dir), before) {
		t.Error("something was written")
	}
}

func TestPlanWritesNothingAndEROFSIsTold(t *testing.T) {
	im := newGlibcImage(t)
	before := tree(t, im.dir)
	p, err := NewPlan(im.root(), config(t, "550.1"))
	if err != nil || len(p.Files) != 3 || !slices.Equal(tree(t, im.dir), before) {
		t.Fatalf("plan: %+v, %v", p, err)
	}
	if err := unix.Mount(im.dir, im.dir, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
	defer unix.Unmount(im.dir, unix.MNT_DETACH)
	im.must(unix.Mount("", im.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if p, err = Install(im.root(), config(t, "550.1")); !errors.Is(err, unix.EROFS) || len(p.Files) != 3 {
		t.Errorf("read-only: %+v, %v", p, err)
	}
}

func TestIncludesFirst(t *testing.T) {
	for conf, want := range map[string]bool{
		"":                                       false,
		"include /etc/ld.so.conf.d/*.conf":       true,
		"include ld.so.conf.d/*.conf\n/lib\n":    true,
		"# c\n\n include\t/etc/ld.so.conf.d/*\n": true,
		"include /x /etc/ld.so.conf.d/*.conf":    false,
		"/lib\ninclude /etc/ld.so.conf.d/*.conf": false,
		"# include /etc/ld.so.conf.d/*.conf":     false,
		"include /etc/ld.so.conf.d/x*.conf":      false,
		"include":                                false,
		"included /etc/ld.so.conf.d/*.conf":      false,
		"include /etc/ld.so.conf.d/[":            false,
		"include " + ConfFile + " # ours\n/lib":  true,
	} {
		if got := includesFirst(conf, ConfFile); got != want {
			t.Errorf("%q: %v", conf, got)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	im := newGlibcImage(t)
	for _, cfg := range []Config{
		{Dirs: []Dir{{"lib", X8664}}},
		{Dirs: []Dir{{"/a/../b", X8664}}},
		{Dirs: []Dir{{"/a:/b", X8664}}},
		{Dirs: []Dir{{"/a\ninclude /x", X8664}}},
		{Compat: Compat{Dirs: []string{"/a b"}}},
		{Libraries: []Library{{"../libc.so.6", "/lib/libc.so.6", X8664}}},
		{Libraries: []Library{{"libc.so.6", "", X8664}}},
	} {
		if _, err := NewPlan(im.root(), cfg); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
