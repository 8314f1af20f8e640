// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	pid := r.up(c).share.Pid()
	t.Run("threads", func(t *testing.T) {
		// QEMU's library begins a thread of its own (RCU) before virtiofsd can have its
		// own filter. It has what the jail gave, which is a filter too, and no right to mount or to trace here.
		early := slices.DeleteFunc(threadsOf(t, pid), func(tid int) bool { return statusOf(t, tid, "Seccomp_filters") != "1" })
		if len(early) > 1 {
			t.Errorf("the threads %v are without virtiofsd's filter", early)
		}
		const users = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
			1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_MKNOD | 1<<unix.CAP_SETFCAP
		const given = users | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_SETPCAP | 1<<unix.CAP_SYS_RESOURCE
		for _, tid := range early {
			for _, set := range capabilitySets {
				if caps := capabilities(t, tid, set); caps&^given != 0 {
					t.Errorf("%s of thread %d has %#x", set, tid, caps&^given)
				}
			}
			for field, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
				if got := statusOf(t, tid, field); got != want {
					t.Errorf("%s of thread %d is %s, want %s", field, tid, got, want)
				}
			}
		}
		threadsConfined(t, pid, users, early...)
	})
	t.Run("namespaces", func(t *testing.T) {
		for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
			if namespaceOf(t, pid, ns) == namespaceOf(t, os.Getpid(), ns) {
				t.Errorf("it is in the host's %s namespace", ns)
			}
		}
	})
	t.Run("root", func(t *testing.T) {
		if root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", pid)); err != nil || root != c.Share {
			t.Errorf("its root is %s, %v", root, err)
		}
		for _, m := range mountsOf(t, pid) {
			if m.source != "share" || !strings.Contains(m.options, "nosuid") || !strings.Contains(m.options, "nodev") {
				t.Errorf("it sees %+v", m)
			}
		}
	})
	t.Run("descriptors", func(t *testing.T) {
		// Its own in /proc, and its threads, it opens before it leaves /proc behind.
		descriptorsKnown(t, pid, `^/dev/null$`, `^/memfd:`, `^`+c.Share+`$`, `^/processes/1/(fd|task)$`)
	})
	t.Run("limits", func(t *testing.T) {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if _, core, _ := strings.Cut(string(limits), "Max core file size"); err != nil || !strings.HasPrefix(strings.Join(strings.Fields(core), " "), "0 0 ") {
			t.Errorf("it would dump core: %s, %v", limits, err)
		}
		if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(environ) > 0 {
			t.Errorf("its environment is %q, %v", environ, err)
		}
	})
}
