// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// sliced is a machine whose GPUs are in MIG mode, with nothing in them, and its
// NVML's state.
func sliced(t *testing.T, gpus int) (*machine, string) {
	t.Helper()
	// A major of its own, of 12 bits: other tests on this machine may have nodes open.
	cfg := fakedriver.Config{Model: fakedriver.H200, GPUs: gpus, Majors: fakedriver.Majors{Caps: 512 + rand.IntN(4096-512)}}
	m := another(t, cfg)
	s := m.state(cfg)
	s.Nodes = fakenvml.Majors{GPUs: 195, Caps: m.Majors.Caps}
	for i := range s.GPUs {
		s.GPUs[i].MIG, s.GPUs[i].Pending = true, true
	}
	s.Caps = filepath.Join(m.Proc, "driver/nvidia/capabilities")
	state := filepath.Join(m.Root, m.LibDir, fakenvml.StateFile)
	if err := s.Write(state); err != nil {
		t.Fatal(err)
	}
	m.use(t)
	return m, state
}

// instances are those that NVML has, by GPU.
func instances(t *testing.T, state string) (out [][]fakenvml.Instance) {
	t.Helper()
	for _, g := range must(fakenvml.Read(state))(t).GPUs {
		out = append(out, g.Instances)
	}
	return out
}

func count(list [][]fakenvml.Instance) (n int) {
	for _, of := range list {
		n += len(of)
	}
	return n
}

// slice is what asks for a slice.
func slice(id, asks string) request {
	return request{id: id, annotations: map[string]string{"berth.dev/mig": asks}}
}

// accessNodes are the nodes of the capabilities of an instance.
func accessNodes(g fakedriver.GPU, in fakenvml.Instance) []string {
	var out []string
	for _, i := range []fakedriver.Instance{{GI: in.ID, CI: fakedriver.NoCI}, {GI: in.ID, CI: in.Compute[0].ID}} {
		out = append(out, "nvidia-caps/nvidia-cap"+itoa(uint32(g.AccessMinor(i))))
	}
	return out
}

// TestSlice has a slice made for a container, seen in it, and gone with it.
func TestSlice(t *testing.T) {
	m, state := sliced(t, 2)
	ctx := testContext(t)
	c := start(ctx, t, slice("", "3g.71gb"))
	live := instances(t, state)
	if count(live) != 1 {
		t.Fatalf("instances %+v, want one", live)
	}
	for i, of := range live {
		for _, in := range of {
			out, _ := c.exec(ctx, t, "ls", "/dev", "/dev/nvidia-caps")
			for _, node := range accessNodes(m.GPUs[i], in) {
				if !strings.Contains(out, filepath.Base(node)) {
					t.Errorf("the container lacks %s: %s", node, out)
				}
			}
			if in.Profile != 9 || len(in.Compute) != 1 {
				t.Errorf("instance %+v, want a 3g.71gb with one compute instance", in)
			}
		}
	}
	if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
		t.Fatal(err)
	}
	wantNoSlices(t, m, state)
}

// wantNoSlices wants what there was at the start, once releases have ended that
// nobody waited for.
func wantNoSlices(t *testing.T, m *machine, state string) {
	t.Helper()
	awaitHelpers(testContext(t), t, m.Root)
	if live := instances(t, state); count(live) != 0 {
		t.Errorf("instances left: %+v", live)
	}
	for _, pattern := range []string{"mig/*/*.json", "claims/*", "tenants/*"} {
		if left := must(filepath.Glob(filepath.Join(m.run, pattern)))(t); left != nil {
			t.Errorf("left behind: %q", left)
		}
	}
}

// TestSliceRefused has no room for a container, which leaves nothing, and does
// no harm to those that are there.
func TestSliceRefused(t *testing.T) {
	m, state := sliced(t, 1)
	ctx := testContext(t)
	c := start(ctx, t, slice("", "7g.141gb"))
	before := instances(t, state)
	for asks, want := range map[string]string{"1g.18gb": "room", "9g.999gb": "9g.999gb", "../x": "../x"} {
		_, err := tryStart(ctx, t, slice("refused", asks))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want one that says %q", asks, err, want)
		}
		if found := left(t, "refused"); asks != "" && hasClaim(m, "refused") {
			t.Errorf("%s: left behind: %q", asks, found)
		}
		if err := removeContainer(ctx, "refused"); err != nil {
			t.Fatal(err)
		}
	}
	if after := instances(t, state); !reflect.DeepEqual(before, after) {
		t.Errorf("instances %+v, were %+v", after, before)
	}
	metrics := must(berth(ctx, "gpu", "metrics"))(t)
	for _, want := range []string{`profile="7g.141gb",state="allocated"} 1`, `profile="1g.18gb"} 0`, `{profile="1g.18gb",reason="room"} 1`, `{profile="other",reason="request"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s:\n%s", want, metrics)
		}
	}
	if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
		t.Fatal(err)
	}
	wantNoSlices(t, m, state)
}

// TestSlicedIsNotWhole has no GPU given whole that is in MIG mode, though nothing
// is in it.
func TestSlicedIsNotWhole(t *testing.T) {
	m, _ := sliced(t, 1)
	ctx := testContext(t)
	for asks, want := range map[string]string{"1": "in MIG mode and empty", "index:0": "`nvidia-smi -i 0 -mig 0`"} {
		if _, err := tryStart(ctx, t, request{id: "whole", gpu: asks}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", asks, err, want)
		}
		if hasClaim(m, "whole") {
			t.Errorf("%s: a claim is left", asks)
		}
		if err := removeContainer(ctx, "whole"); err != nil {
			t.Fatal(err)
		}
	}
	if out := must(berth(ctx, "gpu", "ls"))(t); !strings.Contains(out, "ok, MIG mode") || !strings.Contains(out, "[........]") {
		t.Errorf("berth gpu ls: %s", out)
	}
}

func hasClaim(m *machine, id string) bool { return exists(m.claim(id)) }

// TestSliceShimKilled kills a shim: who cleans up after it gives the slice back.
func TestSliceShimKilled(t *testing.T) {
	m, state := sliced(t, 1)
	ctx := testContext(t)
	c := start(ctx, t, slice("", "1g.18gb:2"))
	if live := instances(t, state); count(live) != 2 {
		t.Fatalf("instances %+v, want two", live)
	}
	deleted := deletion(ctx, t, c.ID())
	if err := unix.Kill(shimOf(t, c.ID()), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deleted()
	if _, err := c.task.Delete(ctx); err != nil && !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	wantNoSlices(t, m, state)
}

// TestSliceOrphan kills containerd and the shim, so that nobody cleans up: the
// container lives on, and keeps its slice, though it does nothing on it and the
// driver would let it go. Another containerd's container is refused and learns
// who has it, and gets it once the first was cleaned up.
func TestSliceOrphan(t *testing.T) {
	m, state := sliced(t, 1)
	ctx := testContext(t)
	other := must(node.Start(ctx, node.Config{Env: []string{"BERTH_GPU_CONFIG=" + config}}))(t)
	t.Cleanup(func() {
		if err := other.Stop(testContext(t)); err != nil {
			t.Error(err)
		}
	})
	ask := func() error {
		_, err := other.Ctr(ctx, "run", "--detach", "--snapshotter", other.Snapshotter(), "--runtime", node.GPURuntime,
			"--annotation", "berth.dev/mig=7g.141gb", image.Demo, "other", "sleep", "1000")
		return err
	}
	c := start(ctx, t, slice("", "7g.141gb"))
	before := instances(t, state)
	shim, init := shimOf(t, c.ID()), int(c.task.Pid())
	if err := shared.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(shim, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "7g.141gb at 0:8 of "+shared.ID()+"/"+c.ID()+" (its shim is gone, and its processes live)") {
		t.Errorf("the error is %v", err)
	}
	if _, err := other.Ctr(ctx, "container", "delete", "other"); err != nil {
		t.Error(err)
	}
	if out := reclaim(ctx, t); !strings.Contains(out, "kept") {
		t.Errorf("reclaim: %s", out)
	}
	if after := instances(t, state); !reflect.DeepEqual(after, before) || unix.Kill(init, 0) != nil {
		t.Errorf("the container has %+v, had %+v", after, before)
	}
	if err := shared.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if err := removeContainer(ctx, c.ID()); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err != nil {
		t.Errorf("once it is cleaned up: %v", err)
	}
	if _, err := other.Ctr(ctx, "task", "delete", "--force", "other"); err != nil {
		t.Error(err)
	}
	if _, err := other.Ctr(ctx, "container", "delete", "other"); err != nil {
		t.Error(err)
	}
	wantNoSlices(t, m, state)
}

// TestSliceInUse has another process use a slice when its container is deleted:
// the deletion does not wait for that, nor does the shim's end, and the slice is
// destroyed once the process has gone, though nobody asks for it.
func TestSliceInUse(t *testing.T) {
	for _, how := range []string{"by its shim", "by shim delete"} {
		t.Run(how, func(t *testing.T) {
			m, state := sliced(t, 1)
			ctx := testContext(t)
			c := start(ctx, t, slice("", "1g.18gb"))
			user := shared.Command(ctx, "cat")
			stdin := must(user.StdinPipe())(t)
			if err := user.Start(); err != nil {
				t.Fatal(err)
			}
			s := must(fakenvml.Read(state))(t)
			in := s.GPUs[0].Instances[0]
			s.Processes = []fakenvml.Process{{PID: user.Process.Pid, GI: in.ID, CI: in.Compute[0].ID}}
			if err := s.Write(state); err != nil {
				t.Fatal(err)
			}
			if how == "by its shim" {
				if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
					t.Fatal(err)
				}
			} else {
				deleted := deletion(ctx, t, c.ID())
				if err := unix.Kill(shimOf(t, c.ID()), unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				deleted()
			}
			if live := instances(t, state); count(live) != 1 || len(helpers(t, m.Root)) != 1 {
				t.Errorf("while the slice is in use there are instances %+v, helpers %v", live, helpers(t, m.Root))
			}
			if out, err := berth(ctx, "gpu", "ls"); err != nil || !strings.Contains(out, "Zombie") {
				t.Errorf("berth gpu ls: %v: %s", err, out)
			}
			if err := removeContainer(ctx, c.ID()); err != nil {
				t.Error(err)
			}
			if err := errors.Join(stdin.Close(), user.Wait()); err != nil {
				t.Fatal(err)
			}
			wantNoSlices(t, m, state)
		})
	}
}

// reclaim is what `berth gpu reclaim` says.
func reclaim(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	return must(berth(ctx, append([]string{"gpu", "reclaim"}, args...)...))(t)
}

// berth runs the operator's tool.
func berth(ctx context.Context, args ...string) (string, error) {
	cmd := shared.Command(ctx, "berth", args...)
	cmd.Env = append(cmd.Env, "BERTH_GPU_CONFIG="+config)
	return shared.Run(cmd)
}

// awaitHelpers waits for the end of the helpers that work on a machine: releases
// that nobody waited for.
func awaitHelpers(ctx context.Context, t *testing.T, root string) {
	t.Helper()
	for _, pid := range helpers(t, root) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has gone
		}
		deadline, _ := ctx.Deadline()
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if _ = unix.Close(fd); n != 1 {
			t.Errorf("helper %d does not end: %v", pid, err)
		}
	}
}

// TestSliceOfPod has the containers of a pod share a slice.
func TestSliceOfPod(t *testing.T) {
	m, state := sliced(t, 1)
	ctx := testContext(t)
	pod := must(shared.RunAnnotatedPod(ctx, "mig", node.GPUHandler, map[string]string{
		"berth.dev/mig": "2g.35gb", "berth.dev/mig-share": "pod", "berth.dev/mig.own": "1g.18gb", "berth.dev/mig-share.own": "",
	}))(t)
	removed := false
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t)); err != nil && !removed {
			t.Error(err)
		}
	})
	for _, name := range []string{"a", "b", "own"} {
		must(pod.Run(ctx, name, "sleep", "1000"))(t)
	}
	if live := instances(t, state); count(live) != 2 {
		t.Errorf("instances %+v, want one for two containers, and one for the third", live)
	}
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	removed = true
	wantNoSlices(t, m, state)
}
