// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process/oci"
)

// The exploits here, in attackconsole_test.go and in attackproc_test.go are
// staged in the rootfs before the container is made. The published ones win a
// race instead, mostly one of a container against another's creation over a
// volume that both have; what they put in place at the right moment is there from
// the beginning here. That a check still holds when the file changes between it
// and its use is not shown: it rests on the library's use of descriptors where it
// used paths.

// ownDev gives the container the /dev of its rootfs, not one of its own.
func (b *box) ownDev() string {
	b.spec.Mounts = slices.DeleteFunc(b.spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev" })
	return filepath.Join(b.rootfs, "dev")
}

// refused wants a create to fail for a reason, and to leave nothing.
func (b *box) refused(stdio oci.Stdio, reason string) {
	b.Helper()
	p, err := b.tryCreate(stdio)
	if err == nil {
		err := b.driver.Start(b.Context(), b.id)
		b.Fatalf("the container is made; its init, started (%v), ends with %d", err, b.status(p))
	}
	if !strings.Contains(err.Error(), reason) {
		b.Errorf("it is refused with %v; want %q", err, reason)
	}
	b.nothingLeft()
}

func (b *box) link(target string, name ...string) {
	b.Helper()
	b.must(os.Symlink(target, filepath.Join(name...)))
}

func (b *box) wantText(path, want string) {
	b.Helper()
	if data, err := os.ReadFile(path); err != nil || string(data) != want {
		b.Errorf("%s has %q, %v; want %q", filepath.Base(path), data, err, want)
	}
}

// CVE-2025-31133: files are masked by a bind mount of the container's /dev/null.
// What a link in its place leads to is mounted for it, writable, and a missing
// one masked nothing. The volume for /dev has the library not make one itself,
// so that nothing looks at it before the masks do.
func TestMaskIsNull(t *testing.T) {
	const script = "echo written >/masked; read x </masked; test \"$x\" = secret && exit 65; test -s /victim && exit 66; exit 0"
	for _, c := range []struct {
		name   string
		null   func(b *box, path string)
		reason string // empty: it is a null device
	}{
		{"device", func(b *box, path string) { b.must(unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))) }, ""},
		{"link", func(b *box, path string) { b.link("/victim", path) }, "/dev/null is invalid"},
		{"link to proc", func(b *box, path string) { b.link("/proc/self/comm", path) }, "/dev/null is invalid"},
		{"dangling link", func(b *box, path string) { b.link("/nowhere", path) }, "can't mask paths"},
		{"file", func(b *box, path string) { b.must(os.WriteFile(path, nil, 0o666)) }, "/dev/null is invalid"},
		{"missing", func(*box, string) {}, "can't mask paths"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, script)
			dev := filepath.Join(b.bundle, "dev")
			b.must(os.Mkdir(dev, 0o755))
			c.null(b, filepath.Join(dev, "null"))
			b.ownDev()
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/dev", Type: "bind", Source: dev, Options: []string{"bind"}})
			b.spec.Linux.MaskedPaths = []string{"/masked"}
			b.must(os.WriteFile(filepath.Join(b.rootfs, "masked"), []byte("secret\n"), 0o666))
			b.must(os.WriteFile(filepath.Join(b.rootfs, "victim"), nil, 0o666))
			if c.reason == "" {
				if status := b.status(b.run(nil)); status != 0 {
					t.Errorf("behind a true null device the script ends with %d", status)
				}
				b.must(b.driver.Delete(t.Context(), b.id, false))
			} else {
				b.refused(nil, c.reason)
			}
			b.wantText(filepath.Join(b.rootfs, "victim"), "")
			b.wantText(filepath.Join(b.rootfs, "masked"), "secret\n")
			if c.reason == "" { // the script can write what is not masked, and tells it
				b.spec.Linux.MaskedPaths = nil
				b.spec.Process = shell("echo written >/victim; " + script)
				if status := b.status(b.run(nil)); status != 66 {
					t.Errorf("without a mask the script ends with %d", status)
				}
				b.wantText(filepath.Join(b.rootfs, "masked"), "written\n")
			}
		})
	}
	// The same in the image, without a volume: the library opens it earlier.
	t.Run("image", func(t *testing.T) {
		b := newBox(t, script)
		b.link("/victim", b.ownDev(), "null")
		b.must(os.WriteFile(filepath.Join(b.rootfs, "victim"), nil, 0o666))
		b.refused(nil, "/dev/null is invalid")
		b.wantText(filepath.Join(b.rootfs, "victim"), "")
	})
}

func (b *box) names(dir string) []string {
	b.Helper()
	entries, err := os.ReadDir(dir)
	b.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// CVE-2026-41579: a /dev in the image that is a link out of it has the links
// that are made in /dev made there, and the ptmx there removed.
func TestDevStaysInside(t *testing.T) {
	for _, c := range []struct {
		name   string
		target func(outside string) string
		tmpfs  bool // something is mounted on /dev
	}{
		{"absolute", func(outside string) string { return outside }, false},
		{"relative", func(outside string) string { return "../" + filepath.Base(outside) }, false},
		{"absolute and mounted on", func(outside string) string { return outside }, true},
		{"relative and mounted on", func(outside string) string { return "../" + filepath.Base(outside) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, "test -c /dev/made && test -L /dev/ptmx && test -L /dev/fd")
			outside := filepath.Join(filepath.Dir(b.rootfs), "outside")
			b.must(os.Mkdir(outside, 0o755))
			b.must(os.WriteFile(filepath.Join(outside, "ptmx"), []byte("host's\n"), 0o600))
			dev := filepath.Join(b.rootfs, "dev")
			if !c.tmpfs {
				dev = b.ownDev()
			}
			b.must(os.Remove(dev))
			b.link(c.target(outside), dev)
			b.spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/made", Type: "c", Major: 1, Minor: 5}}
			// Whoever follows the link is outside.
			b.wantText(filepath.Join(dev, "ptmx"), "host's\n")

			if status := b.status(b.run(nil)); status != 0 {
				t.Errorf("the devices are not where the container has them: the script ends with %d", status)
			}
			b.wantText(filepath.Join(outside, "ptmx"), "host's\n")
			if names := b.names(outside); !slices.Equal(names, []string{"ptmx"}) {
				t.Errorf("outside of the rootfs there are %v", names)
			}
		})
	}
}
