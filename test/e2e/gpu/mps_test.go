// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// cudaOnce is a program in the container that uses CUDA, and ends.
var cudaOnce = []string{"/usr/bin/nvidia-cuda-mps-control", "-fake-client", "-once"}

// sharing is what asks for a GPU through MPS.
func sharing(id, gpu, asks string) request {
	return request{id: id, gpu: gpu, annotations: map[string]string{"berth.dev/mps": asks}}
}

// served is a machine with GPUs for MPS.
func served(t *testing.T, policy ...string) *machine {
	t.Helper()
	m := another(t, fakedriver.Config{GPUs: 2})
	m.use(t, policy...)
	return m
}

// mpsDir is the directory of the one daemon that there is.
func (m *machine) mpsDir(t *testing.T) string {
	t.Helper()
	dirs := must(filepath.Glob(filepath.Join(m.run, "mps/*")))(t)
	if len(dirs) != 1 {
		t.Fatalf("daemons %q, want one", dirs)
	}
	return dirs[0]
}

func (m *machine) mpsLog(t *testing.T) string {
	t.Helper()
	return string(must(os.ReadFile(filepath.Join(m.mpsDir(t), "fs/nvidia-log/control.log")))(t))
}

// misbehave has MPS's programs do what they should not.
func (m *machine) misbehave(t *testing.T, how string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.Root, "etc/fake-mps.conf"), []byte(how), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mpsProcesses are those of the driver's programs that run on the host: they are
// of the machine's file, and see its root.
func (m *machine) mpsProcesses(t *testing.T) (pids []string) {
	t.Helper()
	for _, exe := range must(filepath.Glob("/proc/[0-9]*/exe"))(t) {
		if at, err := os.Readlink(exe); err == nil && strings.HasPrefix(at, m.Root+"/usr/bin/nvidia-cuda-mps-") {
			pids = append(pids, exe)
		}
	}
	return pids
}

// wantNoMPS wants nothing of any daemon.
func wantNoMPS(t *testing.T, m *machine) {
	t.Helper()
	for _, pattern := range []string{
		m.run + "/mps/*", m.run + "/claims/*", "/sys/fs/cgroup/" + shared.ID() + "/berth-mps-*", "/sys/fs/cgroup/*/" + shared.ID() + "/berth-mps-*",
	} {
		if left := must(filepath.Glob(pattern))(t); left != nil {
			t.Errorf("left behind: %q", left)
		}
	}
	if left := m.mpsProcesses(t); left != nil {
		t.Errorf("processes %q", left)
	}
	if mounts := must(os.ReadFile("/proc/self/mountinfo"))(t); strings.Contains(string(mounts), m.run) {
		t.Errorf("a mount is left: %s", mounts)
	}
}

// TestMPS has a container with a daemon: a program gets the limits, and nothing
// in the container can change them, or the daemon's files.
func TestMPS(t *testing.T) {
	m := served(t)
	ctx := testContext(t)
	c := start(ctx, t, sharing("", "index:1", "memory=10GiB,threads=25"))
	out, code := c.exec(ctx, t, cudaOnce...)
	if code != 0 || !strings.Contains(out, "threads 25.0, memory 0=10240M "+m.GPUs[1].UUID+"=10240M, shared memory says server") {
		t.Errorf("status %d: %s", code, out)
	}
	for _, try := range []string{
		"echo set_default_active_thread_percentage 100 | nvidia-cuda-mps-control", "rm /tmp/nvidia-mps/control", "echo x >/tmp/nvidia-mps/x",
		"ln -sf /etc/passwd /tmp/nvidia-mps/log", "umount /tmp/nvidia-mps/control_privileged", "mv /tmp/nvidia-mps /tmp/other",
	} {
		if out, code := c.exec(ctx, t, "sh", "-c", try); code == 0 {
			t.Errorf("%s succeeds: %s", try, out)
		}
	}
	log := m.mpsLog(t)
	for _, want := range []string{"for " + m.GPUs[1].UUID + "\n", "Cmd:set_default_active_thread_percentage 25\n", "Cmd:set_default_device_pinned_mem_limit 0 10240M\n"} {
		if !strings.Contains(log, want) {
			t.Errorf("the daemon's log lacks %q: %s", want, log)
		}
	}
	if strings.Contains(log, "percentage 100") {
		t.Errorf("the container reached the daemon: %s", log)
	}
	if n := len(m.mpsProcesses(t)); n != 2 {
		t.Errorf("%d processes, want a daemon and a server", n)
	}
	if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
		t.Fatal(err)
	}
	wantNoMPS(t, m)
}

// TestMPSOfPod has two containers of a pod share a daemon, which a third does not
// ask for; it ends with the second of them.
func TestMPSOfPod(t *testing.T) {
	m := served(t)
	ctx := testContext(t)
	pod := must(shared.RunAnnotatedPod(ctx, "mps", node.GPUHandler, map[string]string{
		"berth.dev/gpu": "index:0", "berth.dev/mps": "threads=50", "berth.dev/mps.alone": "none", "berth.dev/mps.other": "threads=60",
	}))(t)
	removed := false
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t)); err != nil && !removed {
			t.Error(err)
		}
	})
	ids := map[string]string{}
	for _, name := range []string{"a", "b", "alone"} {
		ids[name] = must(pod.Run(ctx, name, "sleep", "1000"))(t)
	}
	if _, err := pod.Run(ctx, "other", "sleep", "1000"); err == nil || !strings.Contains(err.Error(), "threads=60") || !strings.Contains(err.Error(), "share one MPS daemon") {
		t.Errorf("other limits: %v", err)
	}
	cuda := func(name string) string {
		out, err := shared.Crictl(ctx, append([]string{"exec", "--sync", ids[name]}, cudaOnce...)...)
		return fmt.Sprint(out, err)
	}
	first := cuda("a")
	if !strings.Contains(first, "threads 50.0") || cuda("b") != first {
		t.Errorf("one has %s, the other %s", first, cuda("b"))
	}
	if got := cuda("alone"); !strings.Contains(got, "without MPS") {
		t.Errorf("the third has %s", got)
	}
	m.mpsDir(t)
	if out, err := shared.Crictl(ctx, "rm", "-f", ids["a"]); err != nil {
		t.Fatal(out, err)
	}
	if cuda("b") != first {
		t.Errorf("once the first is gone the other has %s", cuda("b"))
	}
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	removed = true
	wantNoMPS(t, m)
}

// TestMPSOnSlice has a pod share its MIG device through MPS. It is destroyed, at
// once, though the daemon's server had it until the end.
func TestMPSOnSlice(t *testing.T) {
	m, state := sliced(t, 1)
	ctx := testContext(t)
	pod := must(shared.RunAnnotatedPod(ctx, "mps-mig", node.GPUHandler, map[string]string{
		"berth.dev/mig": "2g.35gb", "berth.dev/mig-share": "pod", "berth.dev/mps": "memory=4GiB",
	}))(t)
	removed := false
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t)); err != nil && !removed {
			t.Error(err)
		}
	})
	for _, name := range []string{"a", "b"} {
		id := must(pod.Run(ctx, name, "sleep", "1000"))(t)
		uuid := instances(t, state)[0][0].Compute[0].UUID
		out, err := shared.Crictl(ctx, append([]string{"exec", "--sync", id}, cudaOnce...)...)
		if err != nil || !strings.Contains(out, uuid+"=4096M") {
			t.Errorf("%s has %s, %v, want a limit of %s", name, out, err, uuid)
		}
	}
	if live := instances(t, state); count(live) != 1 {
		t.Errorf("instances %+v, want one", live)
	}
	if procs := must(fakenvml.Read(state))(t).Processes; len(procs) != 1 || procs[0].GI != instances(t, state)[0][0].ID {
		t.Errorf("processes %+v: the server does not have the device", procs)
	}
	if err := pod.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	removed = true
	wantNoMPS(t, m)
	wantNoSlices(t, m, state)
}

// TestMPSUsers has clients of other users than root: the server is theirs, and a
// user namespace's root is what it is on the host.
func TestMPSUsers(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	for name, c := range map[string]struct {
		spec     oci.SpecOpts
		remapped bool
		user     int
	}{
		"user":      {oci.WithUserID(1000), false, 1000},
		"namespace": {oci.WithUserNamespace(ids, ids), true, 100000},
	} {
		t.Run(name, func(t *testing.T) {
			m := served(t)
			ctx := testContext(t)
			want := sharing(identifier(t), "index:0", "threads=20")
			want.args, want.spec = cudaOnce, []oci.SpecOpts{c.spec}
			if c.remapped {
				img := must(shared.Client().GetImage(ctx, glibc))(t)
				want.root = containerd.WithUserNSRemappedSnapshot(want.id, img, ids, ids)
			}
			out, code := run1(ctx, t, want)
			if code != 0 || !strings.Contains(out, fmt.Sprintf("of user %d, threads 20.0", c.user)) {
				t.Errorf("status %d: %s", code, out)
			}
			wantNoMPS(t, m)
		})
	}
}

// TestMPSStubborn has a container that ignores all signals, under a daemon that
// does not end when it is asked to.
func TestMPSStubborn(t *testing.T) {
	for _, how := range []string{"quit-ignore", "quit-hang"} {
		t.Run(how, func(t *testing.T) {
			m := served(t)
			ctx := testContext(t)
			want := sharing("", "index:0", "on")
			want.args = []string{"sh", "-c", "trap '' TERM INT HUP; /usr/bin/nvidia-cuda-mps-control -fake-client; while :; do sleep 1000; done"}
			c := start(ctx, t, want)
			c.exec(ctx, t, cudaOnce...)
			m.misbehave(t, how)
			if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
				t.Fatal(err)
			}
			wantNoMPS(t, m)
		})
	}
}

// TestMPSShimKilled kills a shim while containerd is away: container and daemon
// go on, and both end when somebody cleans up.
func TestMPSShimKilled(t *testing.T) {
	t.Run("GPU", func(t *testing.T) {
		m := served(t)
		outlive(t, m, sharing("", "index:0", "threads=10"), func(ctx context.Context) {
			reclaim := shared.Command(ctx, "berth", "gpu", "reclaim")
			reclaim.Env = append(reclaim.Env, "BERTH_GPU_CONFIG="+config)
			if out, err := shared.Run(reclaim); err != nil || !strings.Contains(out, "its containers live") {
				t.Errorf("reclaim says %s, %v", out, err)
			}
		})
	})
	t.Run("slice", func(t *testing.T) {
		m, state := sliced(t, 1)
		want := slice("", "1g.18gb")
		want.annotations["berth.dev/mps"] = "threads=10"
		outlive(t, m, want, func(context.Context) {})
		wantNoSlices(t, m, state)
	})
}

// outlive has a container with MPS outlive its shim, do something, and end.
func outlive(t *testing.T, m *machine, want request, do func(context.Context)) {
	t.Helper()
	ctx := testContext(t)
	c := start(ctx, t, want)
	c.exec(ctx, t, cudaOnce...)
	if err := shared.Kill(); err != nil {
		t.Fatal(err)
	}
	shim := must(unix.PidfdOpen(shimOf(t, c.ID()), 0))(t)
	defer func() { _ = unix.Close(shim) }()
	if err := unix.PidfdSendSignal(shim, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(shim), Events: unix.POLLIN}}, 10_000); err != nil {
		t.Fatal(err)
	}
	if n := len(m.mpsProcesses(t)); n != 2 {
		t.Errorf("%d processes while the container lives, want a daemon and a server", n)
	}
	do(ctx)
	if err := shared.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if err := removeContainer(ctx, c.ID()); err != nil {
		t.Fatal(err)
	}
	wantNoMPS(t, m)
}

// TestMPSDaemonKilled kills the daemon: the container is told, and killed, or is
// only told.
func TestMPSDaemonKilled(t *testing.T) {
	for action, policy := range map[string][]string{"kill": nil, "report": {"[mps]", `on_death = "report"`}} {
		t.Run(action, func(t *testing.T) {
			m := served(t, policy...)
			ctx := testContext(t)
			envelopes, errs := shared.Client().Subscribe(ctx, fmt.Sprintf(`namespace==%s,topic=="/berth/gpu/mps"`, shared.ID()))
			c := start(ctx, t, sharing("", "index:0", "on"))
			c.exec(ctx, t, cudaOnce...)
			var daemon int
			if _, err := fmt.Sscan(string(must(os.ReadFile(filepath.Join(m.mpsDir(t), "fs/nvidia-mps/nvidia-cuda-mps-control.pid")))(t)), &daemon); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(daemon, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			select {
			case e := <-envelopes:
				got := decode(t, e, "berth.gpu.v1.MPSEnded")
				if fmt.Sprint(got.text[1], got.text[2], got.text[5]) != fmt.Sprint([]string{m.GPUs[0].UUID}, []string{c.ID()}, []string{action}) || got.number[3] != uint64(daemon) || got.number[4] != 137 {
					t.Errorf("event %v %v", got.text, got.number)
				}
			case err := <-errs:
				t.Fatal(err)
			case <-ctx.Done():
				t.Fatal("no event came")
			}
			if action == "kill" {
				if code := c.wait(ctx, t); code != 137 {
					t.Errorf("status %d", code)
				}
			} else if out, code := c.exec(ctx, t, cudaOnce...); code != 0 || !strings.Contains(out, "without MPS") {
				t.Errorf("status %d: %s", code, out)
			}
			if got := notes(t, c.ID()); len(got) != 1 || !strings.Contains(got[0], "MPS daemon") || !strings.Contains(got[0], "action: "+action) {
				t.Errorf("notes %q", got)
			}
			if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
				t.Fatal(err)
			}
			wantNoMPS(t, m)
		})
	}
}

// TestMPSRefused wants the reason, and nothing left.
func TestMPSRefused(t *testing.T) {
	home.use(t)
	two := "MIG-00000001-0000-4000-8000-000000000000,MIG-00000002-0000-4000-8000-000000000000"
	for name, r := range map[string]refusal{
		"text":       {sharing("", "1", "memory=lots"), errdefs.IsInvalidArgument, []string{"berth.dev/mps", `"lots" is no size`, "memory=10GiB"}},
		"no GPU":     {sharing("", "", "on"), errdefs.IsInvalidArgument, []string{"asks for no GPU", "berth.dev/gpu"}},
		"memory":     {sharing("", "1", "memory=200GiB"), errdefs.IsFailedPrecondition, []string{"204800 MiB are asked for", "143771"}},
		"two of MIG": {sharing("", two, "on"), errdefs.IsFailedPrecondition, []string{"ask for one"}},
	} {
		t.Run(name, r.check)
	}
	t.Run("no programs", func(t *testing.T) {
		another(t, fakedriver.Config{NoMPS: true}).use(t)
		refusal{sharing("", "1", "on"), errdefs.IsFailedPrecondition, []string{"no nvidia-cuda-mps-control", "nvidia-compute-utils"}}.check(t)
	})
	t.Run("crash", func(t *testing.T) {
		m := served(t)
		m.misbehave(t, "start-crash")
		refusal{sharing("", "1", "on"), errdefs.IsFailedPrecondition, []string{"fake crash at the start"}}.check(t)
		wantNoMPS(t, m)
	})
}

// TestMPSModes has GPUs that are closed to CUDA, or open to one process alone.
func TestMPSModes(t *testing.T) {
	m := served(t)
	s := m.state(fakedriver.Config{})
	s.GPUs[0].ComputeMode, s.GPUs[1].ComputeMode = 2, 3
	if err := s.Write(filepath.Join(m.Root, m.LibDir, fakenvml.StateFile)); err != nil {
		t.Fatal(err)
	}
	refusal{sharing("modes-closed", "index:0", "on"), errdefs.IsFailedPrecondition, []string{"PROHIBITED", "nvidia-smi -i"}}.check(t)
	ctx := testContext(t)
	other := start(ctx, t, request{id: "modes-other", gpu: "index:1"})
	refusal{sharing("modes-second", "index:1", "on"), errdefs.IsFailedPrecondition, []string{"EXCLUSIVE_PROCESS", "modes-other has it too"}}.check(t)
	if _, err := other.task.Delete(ctx, containerd.WithProcessKill); err != nil {
		t.Fatal(err)
	}
	c := start(ctx, t, sharing("modes-first", "index:1", "on"))
	refusal{sharing("modes-third", "index:1", "on"), errdefs.IsFailedPrecondition, []string{"modes-first has it too"}}.check(t)
	if _, err := c.task.Delete(ctx, containerd.WithProcessKill); err != nil {
		t.Fatal(err)
	}
	wantNoMPS(t, m)
}
