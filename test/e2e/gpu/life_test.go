// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apievents "github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
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

// TestUpgrade has the driver be upgraded while a container runs: its files stay
// those that it has. A new one is refused as long as there is the kernel's half
// alone, and then has the new.
func TestUpgrade(t *testing.T) {
	m := another(t, fakedriver.Config{})
	m.use(t)
	ctx := testContext(t)
	library := func(version string) string { return "/usr/local/nvidia/lib64/libcuda.so." + version }
	has := func(c *container, version string) {
		t.Helper()
		wantCUDA(t, c)
		wantDevices(t, look(t, c), append(m.control(), gpuNode(m.GPUs[0]))...)
		if out, code := c.exec(ctx, t, "sh", "-c", "test -s "+library(version)); code != 0 {
			t.Errorf("%s has no %s: %s", c.ID(), library(version), out)
		}
	}
	before := start(ctx, t, request{id: "upgrade-before", gpu: "1"})
	has(before, m.Version)

	const version = "580.65.06"
	loaded := filepath.Join(m.Proc, "driver/nvidia/version")
	rewrite(t, loaded, strings.ReplaceAll(string(must(os.ReadFile(loaded))(t)), m.Version, version))
	refusal{request{id: "upgrade-half", gpu: "1"}, errdefs.IsFailedPrecondition, []string{version, m.Version, "reboot, or reload the module"}}.check(t)
	has(before, m.Version)

	for _, dir := range []string{m.LibDir, m.LibDir + "/vdpau"} {
		for _, old := range must(filepath.Glob(filepath.Join(m.Root, dir, "*.so."+m.Version)))(t) {
			// As a package manager does: a new file, and the old one removed.
			if err := install(strings.TrimSuffix(old, m.Version)+version, old); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, err := exec.Command("/sbin/ldconfig", "-r", m.Root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after := start(ctx, t, request{id: "upgrade-after", gpu: "1"})
	has(before, m.Version)
	has(after, version)
}
