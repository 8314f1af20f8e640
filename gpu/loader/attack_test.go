// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What an image can put where Install reads and writes. The host's directory has
// files of the names that are written; they must stay what they are.
func TestCVE_2025_23267_InstallFollowsNoLinkToTheHost(t *testing.T) {
	for name, attack := range map[string]struct {
		at, target string // HOST is the host's directory
		refused    bool
	}{
		"etc":                      {"/etc", "HOST", true},
		"etc, climbing":            {"/etc", "../../../../../../../../../../HOST", true},
		"etc is the root":          {"/etc", "/", false},
		"directory of conf files":  {"/etc/ld.so.conf.d", "HOST", true},
		"conf file":                {ConfFile, "HOST/00-berth-nvidia.conf", false},
		"temporary conf file":      {"/etc/ld.so.conf.d/.berth-00-berth-nvidia.conf", "HOST/00-berth-nvidia.conf", false},
		"temporary cache":          {"/etc/.berth-ld.so.cache", "HOST/ld.so.cache", false},
		"ld.so.conf":               {confPath, "HOST/ld.so.conf", false},
		"cache":                    {cachePath, "HOST/ld.so.cache", false},
		"cache, climbing":          {cachePath, "../../../../../../../../../../HOST/ld.so.cache", false},
		"cache, through proc":      {cachePath, "/proc/self/root/HOST/ld.so.cache", false},
		"cache, link to itself":    {cachePath, "ld.so.cache", true},
		"musl's loader and etc":    {"/lib/ld-musl-x86_64.so.1", "HOST/ld.so.cache", false},
		"conf.d, link to itself":   {"/etc/ld.so.conf.d", "ld.so.conf.d", true},
		"conf.d, dangling":         {"/etc/ld.so.conf.d", "/nowhere/at/all", true},
		"conf.d, inside the image": {"/etc/ld.so.conf.d", "/", false},
	} {
		t.Run(name, func(t *testing.T) {
			im, host := newEmptyImage(t), newEmptyImage(t)
			im.write(native(t).glibc, "loader")
			for _, f := range []string{"ld.so.cache", "ld.so.conf", "00-berth-nvidia.conf"} {
				host.write(f, "host")
			}
			before := tree(t, host.dir)
			target := strings.ReplaceAll(attack.target, "/HOST", host.dir)
			im.link(strings.ReplaceAll(target, "HOST", host.dir), attack.at)
			if p, err := Install(im.root(), config(t, "1")); (err != nil) != attack.refused {
				t.Errorf("plan: %+v, %v", p, err)
			} else if err != nil && !strings.Contains(err.Error(), "/etc") {
				t.Errorf("the error does not say where: %v", err)
			}
			if !slices.Equal(tree(t, host.dir), before) {
				t.Error("the host's directory was changed")
			}
		})
	}
}

func TestInstallReadsNothingThatIsNoFile(t *testing.T) {
	for _, p := range []string{cachePath, confPath, ConfFile, "/etc/ld-musl-x86_64.path"} {
		for name, create := range map[string]func(im image, p string) error{
			"FIFO":      func(im image, p string) error { return unix.Mkfifo(im.at(p), 0o644) },
			"zeros":     func(im image, p string) error { return unix.Mknod(im.at(p), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
			"directory": func(im image, p string) error { return os.Mkdir(im.at(p), 0o755) },
			"huge file": func(im image, p string) error { im.write(p, ""); return os.Truncate(im.at(p), 1<<40) },
		} {
			t.Run(p+"/"+name, func(t *testing.T) {
				im := newEmptyImage(t)
				im.write("/lib/ld-musl-x86_64.so.1", "loader")
				im.write("/lib64/ld-linux-x86-64.so.2", "loader")
				im.must(os.MkdirAll(im.at("/etc/ld.so.conf.d"), 0o755))
				im.must(create(im, p))
				cfg := Config{Dirs: []Dir{{driverDir, X8664}}}
				_, err := Install(im.root(), cfg)
				if p == ConfFile && name != "directory" { // ours, whatever it was
					im.must(err)
				} else if err == nil || !strings.Contains(err.Error(), p) {
					t.Errorf("error: %v", err)
				}
			})
		}
	}
}

func TestCompatDirectoryOf10000Entries(t *testing.T) {
	im := newGlibcImage(t)
	im.cuda("999.1")
	for i := range 10_000 {
		im.must(os.Link(im.at("/probe.c"), im.at(compatDir)+"/f"+string(rune('a'+i%26))+strings.Repeat("x", i/26%200)+strings.Repeat("y", i/5200)))
	}
	if p := im.install(compatConfig(t, "550.1", true)); p.Compat != "" || !strings.Contains(strings.Join(p.Lines, "\n"), "more than") {
		t.Errorf("plan of %d files: %q", len(p.Files), p.Lines)
	}
}

// Another thread exchanges a directory with a link to the host's, again and again,
// while Install runs.
func TestCVE_2026_24260_InstallWhileADirectoryBecomesALink(t *testing.T) {
	for _, dir := range []string{"/etc", "/etc/ld.so.conf.d"} {
		t.Run(dir, func(t *testing.T) {
			im, host := newEmptyImage(t), newEmptyImage(t)
			im.write(native(t).glibc, "loader")
			im.must(os.MkdirAll(im.at("/etc/ld.so.conf.d"), 0o755))
			im.link(host.dir, "/swap")
			stop, done := make(chan struct{}), make(chan int)
			go func() {
				swaps := 0
				for {
					select {
					case <-stop:
						done <- swaps
						return
					default:
					}
					if unix.Renameat2(unix.AT_FDCWD, im.at(dir), unix.AT_FDCWD, im.at("/swap"), unix.RENAME_EXCHANGE) == nil {
						swaps++
					}
				}
			}()
			root, installed, refused := im.root(), 0, 0
			for i := range 1000 {
				// Another driver each time, so that there is something to write.
				if _, err := Install(root, config(t, string(rune('a'+i%26)))); err == nil {
					installed++
				} else {
					refused++
				}
			}
			close(stop)
			if swaps := <-done; installed == 0 || refused == 0 || swaps == 0 {
				t.Errorf("no race: %d installed, %d refused, %d exchanges", installed, refused, swaps)
			}
			if left := tree(t, host.dir); len(left) != 1 {
				t.Errorf("the host's directory has %v", left)
			}
		})
	}
}
