// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestShare(t *testing.T) {
	r := newRig(t)
	c := r.config()
	c.Share = shared(t)
	host := filepath.Join(c.Share, "from-host")
	if err := os.WriteFile(host, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := r.up(c)
	g.do("mount", "virtiofs", ShareTag, "/run/share")

	t.Run("files go both ways", func(t *testing.T) {
		if got := g.do("read", "/run/share/from-host"); got != "hello" {
			t.Errorf("the guest reads %q", got)
		}
		g.do("write", "/run/share/from-guest", "hello back")
		if got, err := os.ReadFile(filepath.Join(c.Share, "from-guest")); string(got) != "hello back" {
			t.Errorf("the host reads %q (%v)", got, err)
		}
	})
	t.Run("a later mount appears", func(t *testing.T) {
		dir := filepath.Join(c.Share, "later")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("later", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
			t.Fatal(err)
		}
		defer func() {
			g.do("unmount", "/run/share/later")
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}()
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := g.do("list", "/run/share/later"); got != "file" {
			t.Errorf("the guest sees %q there", got)
		}
	})
	// CVE-2020-2026, and CVE-2026-47243 of a daemon without a sandbox.
	t.Run("a link leads nowhere", func(t *testing.T) {
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(secret, filepath.Join(c.Share, "out")); err != nil {
			t.Fatal(err)
		}
		if got, err := g.try("read", "/run/share/out"); err == nil {
			t.Errorf("the guest reads %q of the host", got)
		}
		if got, err := g.try("list", "/run/share/../../.."); err == nil && strings.Contains(got, "berth-vm") {
			t.Errorf("the guest lists %q", got)
		}
	})
	// CVE-2020-35517: the daemon must not open a device that the guest made.
	t.Run("a device is none", func(t *testing.T) {
		g.do("mknod", "/run/share/null")
		if err := os.WriteFile(filepath.Join(c.Share, "null"), nil, 0); err == nil {
			t.Error("the host opens a device that the guest made: the share is not nodev")
		}
	})
}

func TestShareDaemonIsConfined(t *testing.T) {
	r := newRig(t)
	c := r.config()
	c.Share = shared(t)
	g := r.up(c)
	worker := childOf(t, g.share.Pid())
	for field, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
		if got := statusOf(t, worker, field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	// Of those that it acts for users with, and none to mount or to trace.
	const may = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
		1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SETFCAP | 1<<unix.CAP_DAC_READ_SEARCH
	if caps := capabilities(t, worker, "CapEff"); caps&^may != 0 {
		t.Errorf("the daemon has the capabilities %#x", caps&^may)
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		if namespaceOf(t, worker, ns) == namespaceOf(t, os.Getpid(), ns) {
			t.Errorf("the daemon is in the host's %s namespace", ns)
		}
	}
}
