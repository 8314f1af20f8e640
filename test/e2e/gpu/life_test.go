// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"strings"
	"testing"

	apievents "github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestUpdate changes the limits of a running container, also with the list of
// devices that its client knows, and wants its GPU to stay and no other to come.
func TestUpdate(t *testing.T) {
	home.use(t)
	ctx := testContext(t)
	c := start(ctx, t, request{gpu: "index:0"})
	limit := int64(256 << 20)
	memory := &specs.LinuxMemory{Limit: &limit}
	denied := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, resources := range []specs.LinuxResources{{Memory: memory}, {Memory: memory, Devices: denied}, {Devices: denied}} {
		if err := c.task.Update(ctx, containerd.WithResources(&resources)); err != nil {
			t.Fatal(err)
		}
		wantDevices(t, look(t, c), append(home.control(), gpuNode(home.GPUs[0]))...)
		wantAllowed(t, c, home.GPUs[0])
		wantDenied(t, c, home.GPUs[1:]...)
	}
	if out, _ := c.exec(ctx, t, "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"); !strings.Contains(out, "No such file") && out != fmt.Sprintln(limit) {
		t.Errorf("the limit is %s", out)
	}
}

// TestShimKilled kills a shim: who cleans up after it gives the GPU back.
func TestShimKilled(t *testing.T) {
	home.use(t)
	ctx := testContext(t)
	c := start(ctx, t, request{gpu: "index:0"})
	deleted := deletion(ctx, t, c.ID())
	if !exists(home.claim(c.ID())) {
		t.Fatal("it has no claim")
	}
	if err := unix.Kill(shimOf(t, c.ID()), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deleted()
	if _, err := c.task.Delete(ctx); err != nil && !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if found := left(t, c.ID()); found != nil {
		t.Errorf("left behind: %q", found)
	}
}

// deletion waits, when it is called, for a container's task to have been
// deleted since now.
func deletion(ctx context.Context, t *testing.T, id string) func() {
	events, errs := shared.Client().Subscribe(ctx, fmt.Sprintf(`namespace==%s,topic=="/tasks/delete"`, shared.ID()))
	return func() {
		t.Helper()
		for {
			select {
			case e := <-events:
				deleted, ok := must(typeurl.UnmarshalAny(e.Event))(t).(*apievents.TaskDelete)
				if ok && deleted.ContainerID == id {
					return
				}
			case err := <-errs:
				t.Fatal(err)
			case <-ctx.Done():
				t.Fatal("nobody cleaned up")
			}
		}
	}
}

// shimOf is the shim of a container that has one for itself.
func shimOf(t *testing.T, id string) int {
	t.Helper()
	for _, p := range must(shared.Shims())(t) {
		if strings.HasSuffix(p.Command, "-id "+id) || strings.Contains(p.Command, "-id "+id+" ") {
			return p.Pid
		}
	}
	t.Fatalf("%s has no shim", id)
	return 0
}

// TestTwoShims has two containers side by side, each under a shim of its own and
// with another GPU.
func TestTwoShims(t *testing.T) {
	home.use(t)
	ctx := testContext(t)
	a, b := start(ctx, t, request{id: "two-a", gpu: "index:0"}), start(ctx, t, request{id: "two-b", gpu: "index:1"})
	for i, c := range []*container{a, b} {
		wantDevices(t, look(t, c), append(home.control(), gpuNode(home.GPUs[i]))...)
		wantDenied(t, c, home.GPUs[1-i])
	}
	if _, err := a.task.Delete(ctx, containerd.WithProcessKill); err != nil {
		t.Fatal(err)
	}
	if exists(home.claim("two-a")) || !exists(home.claim("two-b")) {
		t.Error("the claim of the container that is left is gone, or the other is not")
	}
	wantAllowed(t, b, home.GPUs[1])
}
