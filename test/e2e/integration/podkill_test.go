// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

// deaf ignores every signal that can be ignored, and tells when it does.
const deaf = "trap '' TERM INT HUP QUIT USR1; echo deaf; while :; do sleep 0.1; done"

// TestPodStopsTheDeaf stops a container that ignores signals: CRI gives it a second, and
// then the shim kills it.
func TestPodStopsTheDeaf(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		pod := runPod(ctx, t, shared, identifier(t), r)
		id := must(pod.Run(ctx, "deaf", "sh", "-c", deaf))(t)
		beside := must(pod.Run(ctx, "beside", idle...))(t)
		awaitLog(ctx, t, pod, "deaf", "stdout F deaf\n")
		if _, err := shared.Crictl(ctx, "stop", "--timeout", "1", id); err != nil {
			t.Errorf("stop: %v", err)
		}
		if got := inspect(ctx, t, shared, id).Status; got.State != "CONTAINER_EXITED" || got.ExitCode != 137 {
			t.Errorf("%+v, want CONTAINER_EXITED and 137", got)
		}
		if got := inspect(ctx, t, shared, beside).Status.State; got != "CONTAINER_RUNNING" {
			t.Errorf("the container beside is %s", got)
		}
	})
}

// TestPodShimKilled kills the shim of a pod, once under a running containerd and once
// while that is away: CRI learns that all containers have ended, and the pod can be
// removed. Nothing of it runs on.
func TestPodShimKilled(t *testing.T) {
	for name, away := range map[string]bool{"here": false, "away": true} {
		t.Run(name, func(t *testing.T) {
			eachRuntime(t, func(t *testing.T, r runtimeCase) {
				r.known(t, "its delete does not know the socket of a shim that has gone")
				n := shared
				if away {
					n = ownNode(t, node.Config{})
				}
				ctx := testContext(t, n)
				pod := must(n.RunPod(ctx, identifier(t), r.handler))(t)
				t.Cleanup(func() { removeAsKubelet(testContext(t, n), t, pod) })
				var ids []string
				var inits []int
				for i, command := range [][]string{idle, {"sh", "-c", deaf}, idle} {
					id := must(pod.Run(ctx, fmt.Sprint("c", i), command...))(t)
					ids = append(ids, id)
					inits = append(inits, openPidfd(t, inspect(ctx, t, n, id).Info.Pid))
				}
				shim := shimOf(t, inspect(ctx, t, n, ids[0]).Info.Pid)
				if away {
					if err := n.Kill(); err != nil {
						t.Fatal(err)
					}
				}
				if err := unix.Kill(shim, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if away {
					if err := n.Resume(ctx); err != nil {
						t.Fatal(err)
					}
				}
				for i, id := range ids {
					awaitPidfd(t, inits[i])
					awaitState(ctx, t, n, id, "CONTAINER_EXITED")
					if got := inspect(ctx, t, n, id).Status; got.ExitCode == 0 {
						t.Errorf("container %d: %+v, want a status", i, got)
					} else {
						t.Logf("container %d: %+v", i, got)
					}
				}
				if _, err := pod.Run(ctx, "late", idle...); err == nil {
					t.Error("a container was started in a pod whose shim has gone")
				} else {
					t.Log(err)
				}
			})
		})
	}
}

// removeAsKubelet asks again as long as containerd says that the connection to the shim
// is closed: it does so for each task that it has not yet cleaned up by itself after a
// shim that has gone (core/runtime/v2/shim.go, delete), and nothing tells when it has.
func removeAsKubelet(ctx context.Context, t *testing.T, pod *node.Pod) {
	t.Helper()
	for {
		err := pod.Remove(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "ttrpc: closed") {
			t.Fatal(err)
		}
	}
}

// awaitLog waits until a container's log has a text. CRI's log is a file, and nothing
// notifies of what it holds.
func awaitLog(ctx context.Context, t *testing.T, pod *node.Pod, name, text string) {
	t.Helper()
	for {
		log, err := pod.Log(name)
		if err == nil && strings.Contains(log, text) {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("log %q, %v; want %q", log, err, text)
		}
	}
}
