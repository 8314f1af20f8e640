// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strconv"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestGuestUpdate lowers and raises the memory limit of a container: the
// machine's cgroup on the host follows, as far as it was booted with.
func TestGuestUpdate(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		onHost := func() int {
			n, err := strconv.Atoi(cgroupFile(t, c.task.Pid(), "memory", "memory.limit_in_bytes", "memory.max"))
			if err != nil {
				t.Fatal(err)
			}
			return n >> 20
		}
		update := func(memory int64) error {
			return c.task.Update(ctx, containerd.WithResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}}))
		}
		whole := onHost()
		if err := update(100 << 20); err != nil {
			t.Fatal(err)
		}
		// 256 MiB were booted with; 96 are for the guest.
		if got := onHost(); got != whole-(256-196) {
			t.Errorf("the host's limit is %d MiB, was %d", got, whole)
		}
		if err := update(1 << 30); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cannot grow") {
			t.Errorf("more than there is: %v", err)
		}
		if err := update(130 << 20); err != nil {
			t.Fatal(err)
		}
		if got := onHost(); got != whole-(256-226) {
			t.Errorf("the host's limit is %d MiB, was %d", got, whole)
		}
		kill(ctx, t, c.task, unix.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestGuestOutOfMemory has a container without a limit take all that the guest
// has: it is killed, and what is told is not the container's limit.
func TestGuestOutOfMemory(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: hog})
		exit := start(ctx, t, c.task)
		if code := status(ctx, t, exit); code == 0 {
			t.Errorf("status %d", code)
		}
		if err := shared.AwaitLog(ctx, "guest OOM: the VM of the pod has run out of memory", c.ID()); err != nil {
			t.Error(err)
		}
		c.delete(ctx, t, 137)
	})
}
