// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

// runPod runs a pod that is removed when the test ends.
func runPod(ctx context.Context, t *testing.T, n *node.Node, name string, r runtimeCase) *node.Pod {
	t.Helper()
	pod := must(n.RunPod(ctx, name, r.handler))(t)
	t.Cleanup(func() {
		if err := pod.Remove(testContext(t, n)); err != nil {
			t.Error(err)
		}
	})
	return pod
}

// inspection is the part of crictl inspect that tests look at.
type inspection struct {
	Status struct {
		State    string `json:"state"`
		ExitCode int    `json:"exitCode"`
		Reason   string `json:"reason"`
	} `json:"status"`
	Info struct {
		Pid int `json:"pid"`
	} `json:"info"`
}

func inspect(ctx context.Context, t *testing.T, n *node.Node, id string) inspection {
	t.Helper()
	out := must(n.Crictl(ctx, "inspect", id))(t)
	var i inspection
	if err := json.Unmarshal([]byte(out), &i); err != nil {
		t.Fatalf("decode inspect: %v", err)
	}
	return i
}

// TestPod runs a pod of five containers, as a kubelet does, on one shim.
func TestPod(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		pod := runPod(ctx, t, shared, identifier(t), r)
		shims := map[int]bool{}
		var ids []string
		for i := range 5 {
			id := must(pod.Run(ctx, fmt.Sprint("c", i), "sh", "-c", "echo started; "+untilTerm))(t)
			ids = append(ids, id)
			shims[shimOf(t, inspect(ctx, t, shared, id).Info.Pid)] = true
		}
		if len(shims) != 1 {
			t.Errorf("shims %v serve the pod, want one", shims)
		}
		if out, err := shared.Crictl(ctx, "exec", "--sync", ids[0], "echo", "out"); strings.TrimSpace(out) != "out" || err != nil {
			t.Errorf("exec --sync: %q, %v", out, err)
		}
		if _, err := shared.Crictl(ctx, "exec", "--sync", ids[0], "sh", "-c", "exit 3"); err == nil || !strings.Contains(err.Error(), "exited with 3") {
			t.Errorf("exec --sync: %v; want exit status 3", err)
		}
		if out, err := shared.Crictl(ctx, "exec", ids[1], "echo", "streamed"); out != "streamed\n" || err != nil {
			t.Errorf("exec: %q, %v", out, err)
		}
		if out, err := shared.Crictl(ctx, "stats", "--id", ids[0]); err != nil || !strings.Contains(out, "c0") {
			t.Errorf("stats: %q, %v", out, err)
		}
		awaitHandler(t, inspect(ctx, t, shared, ids[2]).Info.Pid, unix.SIGTERM)
		if _, err := shared.Crictl(ctx, "stop", "--timeout", "10", ids[2]); err != nil {
			t.Errorf("stop: %v", err)
		}
		if got := inspect(ctx, t, shared, ids[2]).Status; got.State != "CONTAINER_EXITED" || got.ExitCode != 5 {
			t.Errorf("stopped container: %+v, want CONTAINER_EXITED and 5", got)
		}
		if log, err := pod.Log("c3"); err != nil || !strings.Contains(log, "stdout F started\n") {
			t.Errorf("log %q, %v", log, err)
		}
	})
}

// TestPodOOM wants CRI to give the reason of an OOM kill. CRI learns it from the OOM
// event alone, and keeps it only if that comes before the exit.
func TestPodOOM(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		pod := runPod(ctx, t, shared, identifier(t), r)
		id := must(pod.RunLimited(ctx, "hog", 32<<20, hog...))(t)
		awaitState(ctx, t, shared, id, "CONTAINER_EXITED")
		if got := inspect(ctx, t, shared, id).Status; got.ExitCode != 137 || got.Reason != "OOMKilled" {
			r.known(t, "the OOM event may come after the exit")
			t.Errorf("%+v, want 137 and OOMKilled", got)
		}
	})
}

// awaitState asks CRI for a container's state until it is the one wanted. CRI has a
// stream of events, but crictl may subscribe to it only after the one it waits for.
func awaitState(ctx context.Context, t *testing.T, n *node.Node, id, want string) {
	t.Helper()
	for {
		got := inspect(ctx, t, n, id).Status.State
		if got == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("container is %s, want %s", got, want)
		}
	}
}

// TestGroup puts five containers on one shim by annotation, without CRI.
func TestGroup(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		group := oci.WithAnnotations(map[string]string{"io.containerd.runc.v2.group": identifier(t)})
		shims := map[int]bool{}
		var members []*container
		for i := range 5 {
			c := create(ctx, t, shared, r, request{id: fmt.Sprint(identifier(t), "-", i), args: idle, spec: []oci.SpecOpts{group}})
			start(ctx, t, c.task)
			shims[shimOf(t, int(c.task.Pid()))] = true
			members = append(members, c)
		}
		if len(shims) != 1 {
			t.Errorf("shims %v serve the group, want one", shims)
		}
		// The first started the shim; the others go on without it.
		for _, c := range members {
			if _, code := c.exec1(ctx, t, "alive", nil, "true"); code != 0 {
				t.Errorf("exec in %s: status %d", c.ID(), code)
			}
			exit := must(c.task.Wait(ctx))(t)
			kill(ctx, t, c.task, syscall.SIGKILL)
			c.delete(ctx, t, status(ctx, t, exit))
		}
	})
}

// TestManyContainers runs 50 containers at once, each with its own status and output,
// or 4, where each is an emulated machine.
func TestManyContainers(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		var running sync.WaitGroup
		for i := range r.many(50) {
			running.Go(func() {
				c := create(ctx, t, shared, r, request{
					id:   fmt.Sprint(identifier(t), "-", i),
					args: []string{"sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i)},
				})
				if code := c.run(ctx, t); code != uint32(i) || c.stdout.String() != fmt.Sprintln(i) {
					t.Errorf("container %d: status %d, output %q", i, code, c.stdout)
				}
			})
		}
		running.Wait()
	})
}

// TestManyPods runs 50 pods of one container at once.
func TestManyPods(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		var running sync.WaitGroup
		for i := range r.many(50) {
			running.Go(func() {
				pod, err := shared.RunPod(ctx, fmt.Sprint(identifier(t), "-", i), r.handler)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := pod.Run(ctx, "only", idle...); err != nil {
					t.Error(err)
				}
				if err := pod.Remove(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	})
}
