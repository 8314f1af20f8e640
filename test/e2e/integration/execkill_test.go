// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestExecsAgainstKill starts execs while the container is killed, time and again: each
// comes back with a status or an error, and each exec that started is told to have
// ended. What they leave behind is found when the node stops.
func TestExecsAgainstKill(t *testing.T) {
	const rounds, execs = 16, 4
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		var mu sync.Mutex // guards ended, killed and failed
		var ended, killed, failed int
		exec1 := func(task containerd.Task, id string) {
			p, err := task.Exec(ctx, id, &specs.Process{Args: []string{"sh", "-c", "exit 7"}, Cwd: "/", Env: []string{"PATH=/bin"}}, cio.NullIO)
			var exit <-chan containerd.ExitStatus
			if err == nil {
				exit, err = p.Wait(ctx)
			}
			if err == nil {
				err = p.Start(ctx)
			}
			if ctx.Err() != nil {
				t.Errorf("%s hangs: %v", id, err)
				return
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
				return
			}
			code := status(ctx, t, exit)
			mu.Lock()
			defer mu.Unlock()
			switch code {
			case 7:
				ended++
			case 137:
				killed++
			default:
				t.Errorf("%s ended with %d", id, code)
			}
		}
		for i := range r.many(rounds) {
			c := create(ctx, t, shared, r, request{id: fmt.Sprint(identifier(t), i), args: idle})
			exit := start(ctx, t, c.task)
			var calls sync.WaitGroup
			for k := range execs {
				calls.Go(func() { exec1(c.task, fmt.Sprint("e", k)) })
			}
			if i%2 == 0 { // half of the kills come behind an exec, half at any time
				exec1(c.task, "first")
			}
			kill(ctx, t, c.task, syscall.SIGKILL)
			calls.Wait()
			c.delete(ctx, t, status(ctx, t, exit))
		}
		t.Logf("%d execs ended, %d were killed, %d failed", ended, killed, failed)
	})
}
