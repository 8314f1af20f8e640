// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// terminal is a socket that a terminal is sent to, which nobody takes.
type terminal string

func (terminal) Files() []*os.File       { return nil }
func (s terminal) ConsoleSocket() string { return string(s) }

func (b *box) terminal() terminal {
	b.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	b.must(err)
	b.Cleanup(func() { _ = unix.Close(fd) })
	path := filepath.Join(b.bundle, "tty")
	b.must(unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	b.must(unix.Listen(fd, 1))
	b.spec.Process.Terminal = true
	return terminal(path)
}

// CVE-2025-52565: the terminal is mounted on /dev/console, wherever a link there
// leads to, and was looked up as /dev/pts/N, wherever a link there leads to.
// Such a name cannot be had in a true devpts; but a ptmx device beside one serves
// its terminals too, as its neighbour "pts", and the names beside it are anyone's.
func TestConsoleIsTerminal(t *testing.T) {
	devpts := func(b *box, path string) {
		b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
			Destination: path, Type: "devpts", Source: "devpts",
			Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"},
		})
	}
	for _, c := range []struct {
		name   string
		stage  func(b *box, dev string)
		reason string
	}{
		{"none", func(b *box, _ string) { devpts(b, "/dev/pts") }, ""},
		{"console to a volume", func(b *box, dev string) {
			devpts(b, "/dev/pts")
			b.link("/volume/made", dev, "console")
		}, "/dev/console"},
		{"console to a file", func(b *box, dev string) {
			devpts(b, "/dev/pts")
			b.link("/volume/victim", dev, "console")
		}, "/dev/console"},
		{"pts beside devpts", func(b *box, dev string) {
			b.must(os.MkdirAll(filepath.Join(dev, "pts/pts"), 0o755))
			devpts(b, "/dev/pts/pts")
			b.must(unix.Mknod(filepath.Join(dev, "pts/ptmx"), unix.S_IFCHR|0o666, int(unix.Mkdev(5, 2))))
			b.link("/volume/victim", dev, "pts/0")
		}, "not on a real devpts"},
		{"ptmx a link", func(b *box, dev string) {
			b.must(os.MkdirAll(filepath.Join(dev, "pts"), 0o755))
			devpts(b, "/elsewhere")
			b.link("/elsewhere/ptmx", dev, "pts/ptmx")
			b.link("/volume/victim", dev, "pts/0")
		}, "ptmx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, "echo written >/dev/console; test -c /dev/console && test -t 0 && exit 42")
			volume := filepath.Join(b.bundle, "volume")
			b.must(os.Mkdir(volume, 0o755))
			b.must(os.WriteFile(filepath.Join(volume, "victim"), nil, 0o666))
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"bind"}})
			c.stage(b, b.ownDev())
			tty := b.terminal()
			if c.reason == "" {
				if status := b.status(b.run(tty)); status != 42 {
					t.Errorf("with nothing in its way the script ends with %d", status)
				}
				return
			}
			b.refused(tty, c.reason)
			b.wantText(filepath.Join(volume, "victim"), "")
			if names := b.names(volume); !slices.Equal(names, []string{"victim"}) {
				t.Errorf("the volume has %v", names)
			}
		})
	}
}
