// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/vm"
)

const (
	limit  = 3 * time.Minute
	tester = 1_900_000_000
)

type rig struct {
	testing.TB
	ctx context.Context
	vm.Config
}

func newRig(t testing.TB) *rig {
	t.Helper()
	if os.Getenv("BERTH_GUEST") == "" {
		t.Skip("guests are booted by make test-vm (BERTH_GUEST)")
	}
	img, err := guest()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	sup := process.NewSupervisor()
	t.Cleanup(func() {
		cancel()
		sup.Close()
	})
	return &rig{TB: t, ctx: ctx, Config: vm.Config{
		ID: "test", Supervisor: sup, Image: img, Accel: []vm.Accel{vm.TCG}, MemoryMiB: 256, CPUs: 1,
		QEMU: qemu, Virtiofsd: virtiofsd, Launcher: []string{self, launcher}, UID: tester, GID: tester,
	}}
}

func shared(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("share", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Clones of either kind of template, with and without a share, have an agent that
// does what it is asked.
func TestClone(t *testing.T) {
	for name, sharing := range map[string]bool{"copy": false, "cow": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tpl, err := Make(r.ctx, r.Config, sharing)
			r.must(err)
			defer tpl.Close()
			m, err := Clone(r.ctx, r.Config, tpl, "alone")
			r.must(err)
			r.must(talk(r.ctx, m.Transport(), nothing))
			r.must(m.Close(context.Background()))
			r.Share = r.rootfs()
			if m, err = Clone(r.ctx, r.Config, tpl, "pod"); err != nil {
				t.Fatal(err)
			}
			if got := r.run(m, "echo hello"); got != "hello\n" {
				t.Errorf("a container says %q", got)
			}
			r.must(m.Close(context.Background()))
			if said := m.Console(); len(said) > 0 {
				t.Errorf("the guest's console has %q", said)
			}
		})
	}
}
