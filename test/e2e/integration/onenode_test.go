// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

var pods = flag.Int("pods", 12, "pods of a test of one shim for a node")

var onPod = runtimeCase{name: node.PodRuntime, handler: node.PodHandler}

// onNode skips where the pod shim is not tested, and starts a node that one shim
// of it serves.
func onNode(t *testing.T) (context.Context, *node.Node) {
	t.Helper()
	if !strings.Contains(*runtimes, node.PodRuntime) {
		t.Skip("the pod shim is not among the runtimes to test")
	}
	n := ownNode(t, node.Config{Shim: grouped("node")})
	return testContext(t, n), n
}

// crowd runs pods of one container, all at once, and returns their containers'
// ids.
func crowd(ctx context.Context, t *testing.T, n *node.Node) (all []*node.Pod, ids []string) {
	t.Helper()
	all, ids = make([]*node.Pod, *pods), make([]string, *pods)
	var running sync.WaitGroup
	for i := range ids {
		running.Go(func() {
			var err error
			if all[i], err = n.RunPod(ctx, fmt.Sprint("p", i), node.PodHandler); err == nil {
				ids[i], err = all[i].Run(ctx, "only", idle...)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return all, ids
}

// oneShim wants one process to serve all containers, and returns it.
func oneShim(ctx context.Context, t *testing.T, n *node.Node, ids []string) int {
	t.Helper()
	shims := map[int]int{}
	for _, id := range ids {
		shims[shimOf(t, inspect(ctx, t, n, id).Info.Pid)]++
	}
	serving := must(n.Shims())(t)
	if len(shims) != 1 || len(serving) != 1 {
		t.Fatalf("the containers have the shims %v, and there are %v; want one", shims, serving)
	}
	return serving[0].Pid
}

// TestNodeRestart restarts a containerd whose pods are all one shim's: all are
// found again, and can be worked with and removed. The shim ends with the last.
func TestNodeRestart(t *testing.T) {
	ctx, n := onNode(t)
	all, ids := crowd(ctx, t, n)
	shim := openPidfd(t, oneShim(ctx, t, n, ids))
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if got := inspect(ctx, t, n, id).Status.State; got != "CONTAINER_RUNNING" {
			t.Errorf("container %d is %s", i, got)
		}
		if out, err := n.Crictl(ctx, "exec", id, "echo", "after"); out != "after\n" || err != nil {
			t.Errorf("exec in container %d: %q, %v", i, out, err)
		}
	}
	for i, pod := range all[:len(all)-1] {
		if err := pod.Remove(ctx); err != nil {
			t.Errorf("remove pod %d: %v", i, err)
		}
	}
	last := len(all) - 1
	if out, err := n.Crictl(ctx, "exec", ids[last], "echo", "alone"); out != "alone\n" || err != nil {
		t.Errorf("exec in the last: %q, %v", out, err)
	}
	if err := all[last].Remove(ctx); err != nil {
		t.Error(err)
	}
	awaitPidfd(t, shim)
}

// TestNodeShimKilled kills the shim of all pods: all containers die and containerd
// learns it, and the next pod has a new shim, also while the others are removed.
func TestNodeShimKilled(t *testing.T) {
	ctx, n := onNode(t)
	all, ids := crowd(ctx, t, n)
	var inits []int
	for _, id := range ids {
		inits = append(inits, openPidfd(t, inspect(ctx, t, n, id).Info.Pid))
	}
	if err := unix.Kill(oneShim(ctx, t, n, ids), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	next := must(n.RunPod(ctx, "next", node.PodHandler))(t)
	id := must(next.Run(ctx, "only", idle...))(t)
	for i := range ids {
		awaitPidfd(t, inits[i])
		awaitState(ctx, t, n, ids[i], "CONTAINER_EXITED")
		if got := inspect(ctx, t, n, ids[i]).Status; got.ExitCode == 0 {
			t.Errorf("container %d: %+v, want a status", i, got)
		}
		removeAsKubelet(ctx, t, all[i])
	}
	if out, err := n.Crictl(ctx, "exec", id, "echo", "alive"); out != "alive\n" || err != nil {
		t.Errorf("exec in the pod of the next shim: %q, %v", out, err)
	}
	if err := next.Remove(ctx); err != nil {
		t.Error(err)
	}
}

// TestNodeShimComesAndGoes makes and removes containers by two clients, so that
// the shim is now and then asked to end while the other's `start` joins it: no
// container is ever refused.
func TestNodeShimComesAndGoes(t *testing.T) {
	ctx, n := onNode(t)
	var clients sync.WaitGroup
	for client := range 2 {
		clients.Go(func() {
			for i := range *pods {
				id := fmt.Sprintf("c%d-%d", client, i)
				if err := live(ctx, t, n, id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	clients.Wait()
}

// live runs a container from its creation to its deletion.
func live(ctx context.Context, t *testing.T, n *node.Node, id string) error {
	c, err := tryCreate(ctx, t, n, onPod, request{id: id, args: idle})
	if err != nil {
		return err
	}
	exit, err := c.task.Wait(ctx)
	if err == nil {
		err = c.task.Start(ctx)
	}
	if err == nil {
		err = c.task.Kill(ctx, syscall.SIGKILL)
	}
	if err == nil {
		<-exit
		_, err = c.task.Delete(ctx)
	}
	if err == nil {
		err = c.Container.Delete(ctx, containerd.WithSnapshotCleanup)
	}
	return err
}
