// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Terminals of init and exec begin with the size that is asked for.
func TestConsoleSize(t *testing.T) {
	b := newBox(t, "stty size >/tmp/init; sleep 1000")
	b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin/stty")))
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{
		Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"},
	})
	tty := b.terminal()
	b.spec.Process.ConsoleSize = &specs.Box{Height: 30, Width: 100}
	p := b.run(tty)
	more := shell("stty size >/tmp/exec")
	more.Terminal, more.ConsoleSize = true, &specs.Box{Height: 25, Width: 90}
	e, err := b.exec(more, tty)
	b.must(err)
	if status := b.status(e); status != 0 {
		t.Errorf("the exec ends with %d", status)
	}
	for name, want := range map[string]string{"init": "30 100\n", "exec": "25 90\n"} {
		path := filepath.Join(b.rootfs, "tmp", name)
		b.until("the "+name+" has said its size", func() bool {
			st, err := os.Stat(path)
			return err == nil && st.Size() > 0
		})
		b.wantText(path, want)
	}
	b.kill(p)
}
