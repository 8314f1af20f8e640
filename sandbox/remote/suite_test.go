// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"berth/configs"
	"berth/process"
	"berth/sandbox"
	"berth/sandbox/runtimetest"
)

// guestHost is what a pod runs on whose agent is an ordinary process that
// drives a real runc.
type guestHost struct {
	runtimetest.Host
	rt    *Runtime
	runc  string
	dir   string // the agent's
	share string
}

func newGuestHost(t *testing.T) *guestHost {
	t.Helper()
	return newGuestHostOver(t, needRunc(t))
}

func needRunc(t *testing.T) string {
	t.Helper()
	runc := os.Getenv("BERTH_RUNC")
	if runc == "" {
		t.Skip("BERTH_RUNC does not name a runc")
	}
	return runc
}

// newGuestHostOver has the agent drive a program that is a runc, or nearly so.
func newGuestHostOver(t *testing.T, runc string) *guestHost {
	t.Helper()
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		t.Fatal(err)
	}
	sup := process.NewSupervisor()
	t.Cleanup(sup.Close)
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(dir, "share")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the share is left: %v", err)
		}
		for _, left := range []string{diskDir(filepath.Join(dir, "guest")), diskLinks(filepath.Join(dir, "guest"))} {
			if entries, _ := os.ReadDir(left); len(entries) != 0 {
				t.Errorf("%v of disks are left", entries)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		for _, parent := range []string{"/sys/fs/cgroup/*/berth", "/sys/fs/cgroup/berth"} { // v1, v2
			if left, _ := filepath.Glob(fmt.Sprintf("%s/berth-rt-%d-*", parent, os.Getpid())); len(left) > 0 {
				t.Errorf("cgroups are left: %v", left)
			}
			dirs, _ := filepath.Glob(parent)
			for _, dir := range dirs {
				_ = os.Remove(dir) // others may have theirs in it
			}
		}
	})
	share := filepath.Join(dir, "share")
	served := filepath.Join(share, "served")
	rt := New(Config{
		Host: sandbox.ThisKernel(sup), Share: share, GuestShare: served,
		GuestDisks: diskDir(filepath.Join(dir, "guest")),
		Boot: func(_ context.Context, r BootRequest) (Machine, error) {
			guest := filepath.Join(dir, "guest")
			if err := os.MkdirAll(guest, 0o700); err != nil {
				return nil, err
			}
			return startAgent(t, sup, runc, guest, r.Share), nil
		},
	})
	return &guestHost{
		Host: runtimetest.Host{
			Supervisor: sup, Program: "/bin/busybox",
			Runtime: func(configs.Runtime, string) (sandbox.Runtime, error) { return rt, nil },
		},
		rt: rt, runc: runc, dir: filepath.Join(dir, "guest"), share: share,
	}
}

// What is behind an agent passes the test of all runtimes.
func TestGuest(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Host { return newGuestHost(t).Host })
}

// What is behind an agent has root file systems, volumes and devices on disks.
func TestGuestDisks(t *testing.T) {
	runtimetest.RunDisks(t, func(t *testing.T) runtimetest.Host { return newGuestHost(t).Host })
}
