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
	limit  = 60 * time.Second
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

func TestClone(t *testing.T) {
	r := newRig(t)
	begin := time.Now()
	tpl, err := Make(r.ctx, r.Config, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("template after %v", time.Since(begin))
	defer tpl.Close()
	r.Share = shared(t)
	for range 3 {
		begin := time.Now()
		m, err := Clone(r.ctx, r.Config, tpl, "pod")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("clone after %v", time.Since(begin))
		_ = m.Close(context.Background())
		t.Logf("%s", m.Console())
	}
}
