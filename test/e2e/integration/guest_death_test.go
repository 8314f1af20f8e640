// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

// doomed is a pod of two containers whose machine is about to end.
type doomed struct {
	pod    *node.Pod
	ids    []string // of the sandbox and of its containers; the first of these is privileged
	vmm    int
	events []*recorder
}

func runDoomed(ctx context.Context, t *testing.T, n *node.Node, r runtimeCase) *doomed {
	t.Helper()
	pod := must(n.RunPodWith(ctx, identifier(t), r.handler, node.PodOptions{Privileged: true, OwnPIDs: true}))(t)
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t, n)); err != nil {
			t.Error(err)
		}
	})
	d := &doomed{pod: pod, ids: []string{pod.ID}}
	d.ids = append(d.ids,
		must(pod.RunWith(ctx, "a", node.ContainerOptions{Privileged: true}, idle...))(t),
		must(pod.Run(ctx, "b", idle...))(t))
	d.vmm = inspect(ctx, t, n, d.ids[1]).Info.Pid
	for _, id := range d.ids {
		d.events = append(d.events, recordIn(ctx, t, n, "k8s.io", id))
	}
	return d
}

// do has the privileged container do what nobody outlives: it is not asked whether
// that has worked.
func (d *doomed) do(ctx context.Context, script string) {
	_, _ = shared.Crictl(ctx, "exec", d.ids[1], "sh", "-c", script)
}

// inGuest runs a script beside the agent, where no container is: as the guest's
// kernel runs the program to which cores are piped (core(5)), in the namespaces of
// PID 1. $b is a busybox. A privileged container has its guest.
func (d *doomed) inGuest(ctx context.Context, script string) {
	d.do(ctx, `echo 'b=${0%/script}/bin/busybox; `+script+`' >/script
echo '|/proc/%P/root/bin/busybox sh /proc/%P/root/script' >/proc/sys/kernel/core_pattern
sh -c 'kill -SEGV $$'`)
}

// ended wants an exit of each container, and the CRI to know of it.
func (d *doomed) ended(ctx context.Context, t *testing.T, began time.Time) {
	t.Helper()
	for i := range d.ids {
		if got := d.events[i].await(ctx, "exit 137"); got[len(got)-1] != "exit 137" {
			t.Errorf("container %d of the pod: %q, want exit 137", i, got)
		}
	}
	t.Logf("the last exit was told %v after the cause", time.Since(began))
	for _, id := range d.ids[1:] {
		awaitState(ctx, t, shared, id, "CONTAINER_EXITED")
		if got := inspect(ctx, t, shared, id).Status; got.ExitCode != 137 {
			t.Errorf("%+v, want 137", got)
		}
	}
	if _, err := d.pod.Run(ctx, "late", idle...); err == nil {
		t.Error("a container runs in a pod whose machine has ended")
	}
}

// TestGuestDeath ends the machine of a pod in whatever way there is. Of each container
// an exit is told, and why in the log, with the last of the console; and nothing of the
// pod is left that would keep it from being removed (node.Stop).
func TestGuestDeath(t *testing.T) {
	sysrq := func(key string) func(context.Context, *testing.T, *doomed) {
		return func(ctx context.Context, t *testing.T, d *doomed) { d.do(ctx, "echo "+key+" > /proc/sysrq-trigger") }
	}
	signal := func(victim func(*testing.T, *doomed) int, s unix.Signal) func(context.Context, *testing.T, *doomed) {
		return func(_ context.Context, t *testing.T, d *doomed) {
			if err := unix.Kill(victim(t, d), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	vmm := func(_ *testing.T, d *doomed) int { return d.vmm }
	virtiofsd := func(t *testing.T, d *doomed) int { return sibling(t, d.vmm, "virtiofsd") }
	for name, c := range map[string]struct {
		cause func(context.Context, *testing.T, *doomed)
		why   []string // in one line of the log
	}{
		"panic":            {sysrq("c"), []string{"the guest panicked or rebooted", "Kernel panic - not syncing: sysrq triggered crash"}},
		"reset":            {sysrq("b"), []string{"the guest panicked or rebooted", "sysrq: Resetting"}},
		"power off":        {sysrq("o"), []string{"the guest powered off", "sysrq: Power Off"}},
		"all killed in it": {sysrq("i"), nil}, // the agent, which cannot be, lives
		"agent killed": { // SIGKILL does nothing to a PID 1; on a SIGQUIT a Go program ends
			func(ctx context.Context, _ *testing.T, d *doomed) { d.inGuest(ctx, "kill -QUIT 1") },
			[]string{"the guest panicked or rebooted", "Attempted to kill init!"},
		},
		"QEMU killed":      {signal(vmm, unix.SIGKILL), []string{"the virtual machine monitor ended", "SIGKILL"}},
		"virtiofsd killed": {signal(virtiofsd, unix.SIGKILL), []string{"the daemon of the shared file system ended", "SIGKILL"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachGuest(t, func(t *testing.T, r runtimeCase) {
				ctx := testContext(t, shared)
				d := runDoomed(ctx, t, shared, r)
				share := virtiofsd(t, d)
				programs := []int{openPidfd(t, d.vmm), openPidfd(t, share)}
				began := time.Now()
				c.cause(ctx, t, d)
				d.ended(ctx, t, began)
				if c.why == nil {
					return
				}
				logged, cancel := context.WithTimeout(ctx, eventTimeout)
				defer cancel()
				if err := shared.AwaitLog(logged, append(c.why, "the VM of the pod has ended", d.pod.ID)...); err != nil {
					log, _ := os.ReadFile(shared.LogPath())
					for line := range strings.Lines(string(log)) {
						if strings.Contains(line, "the VM of the pod has ended") {
							t.Log(line)
						}
					}
					t.Error(err)
				}
				for _, p := range programs {
					awaitPidfd(t, p)
				}
			})
		})
	}
}

// TestGuestReboots has a container call reboot(2): that is its own end alone
// (pid_namespaces(7)).
func TestGuestReboots(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		d := runDoomed(ctx, t, shared, r)
		d.do(ctx, "reboot -f")
		awaitState(ctx, t, shared, d.ids[1], "CONTAINER_EXITED")
		if got := inPod(t, d.ids[2], "echo here"); got != "here\n" {
			t.Errorf("the container beside says %q", got)
		}
	})
}

// TestGuestDeaf stops QEMU, as a host may that is overloaded beyond hope, and in a guest
// that runs the agent. A call that is not answered has the guest pinged; the pod has ended
// when it has been silent for as long as no healthy one is.
func TestGuestDeaf(t *testing.T) {
	for name, stop := range map[string]func(context.Context, *testing.T, *doomed){
		"QEMU stopped": func(_ context.Context, t *testing.T, d *doomed) {
			if err := unix.Kill(d.vmm, unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		},
		"agent frozen": func(ctx context.Context, _ *testing.T, d *doomed) { // a PID 1 cannot be stopped by a signal
			d.inGuest(ctx, "g=/sys/fs/cgroup/frozen; $b mkdir $g; echo 1 >$g/cgroup.procs; echo 1 >$g/cgroup.freeze")
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachGuest(t, func(t *testing.T, r runtimeCase) {
				ctx := testContext(t, shared)
				d := runDoomed(ctx, t, shared, r)
				began := time.Now()
				stop(ctx, t, d)
				if out, err := shared.Crictl(ctx, "exec", "--sync", d.ids[2], "true"); err == nil {
					t.Errorf("an exec in a guest that stands still: %q", out)
				}
				logged, cancel := context.WithTimeout(ctx, 2*eventTimeout)
				defer cancel()
				if err := shared.AwaitLog(logged, "the agent has not answered for 15s", d.pod.ID); err != nil {
					t.Error(err)
				}
				d.ended(ctx, t, began)
			})
		})
	}
}

// TestGuestExitsWhileAway ends one container of a pod, and then the machine, while
// containerd is away: the next one learns of both.
func TestGuestExitsWhileAway(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{})
		ctx := testContext(t, n)
		volume := t.TempDir()
		pod := runPod(ctx, t, n, "away", r)
		ends := must(pod.RunWith(ctx, "ends", node.ContainerOptions{Mounts: []node.Mount{{HostPath: volume, ContainerPath: "/volume"}}},
			"sh", "-c", "until test -e /volume/go; do sleep 0.1; done; exit 5"))(t)
		stays := must(pod.Run(ctx, "stays", idle...))(t)
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(volume, "go"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		awaitRecord(ctx, t, n, ends)
		if err := n.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if got := inspect(ctx, t, n, ends).Status; got.State != "CONTAINER_EXITED" || got.ExitCode != 5 {
			t.Errorf("the container that ended meanwhile: %+v, want CONTAINER_EXITED and 5", got)
		}
		if out, err := n.Crictl(ctx, "exec", stays, "echo", "after"); out != "after\n" || err != nil {
			t.Errorf("exec after the restart: %q, %v", out, err)
		}

		vmm := inspect(ctx, t, n, stays).Info.Pid
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(vmm, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitRecord(ctx, t, n, stays)
		if err := n.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		awaitState(ctx, t, n, stays, "CONTAINER_EXITED")
		if got := inspect(ctx, t, n, stays).Status; got.ExitCode != 137 {
			t.Errorf("the container whose machine ended meanwhile: %+v, want 137", got)
		}
	})
}

// awaitRecord waits until a shim has put a container's exit on record. It is a file, and
// nothing notifies of what it holds.
func awaitRecord(ctx context.Context, t *testing.T, n *node.Node, id string) {
	t.Helper()
	file := filepath.Join(n.StateDir(), "io.containerd.runtime.v2.task", "k8s.io", id, "berth.json")
	for {
		text, err := os.ReadFile(file)
		if strings.Contains(string(text), `"exit"`) {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("no exit is on record: %s, %v", text, err)
		}
	}
}
