// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"sync"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
)

// flood is input without end. full is closed once more was taken of it than the pipes
// to a container hold.
type flood struct {
	taken int
	once  sync.Once
	full  chan struct{}
}

func newFlood() *flood { return &flood{full: make(chan struct{})} }

func (f *flood) Read(p []byte) (int, error) {
	if f.taken += len(p); f.taken > 128<<10 {
		f.once.Do(func() { close(f.full) })
	}
	return len(p), nil
}

// TestUnreadInput feeds a container and an exec that never read. Neither exit waits for
// a reader, nor does another exec, the end of the input, or the delete.
func TestUnreadInput(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		if r.guest {
			t.Skip("it signals a container's process on the host, where a guest's is not")
		}
		ctx := testContext(t, shared)
		init, below := newFlood(), newFlood()
		c := create(ctx, t, shared, r, request{args: []string{"sh", "-c", untilTerm}, stdin: init})
		exit := start(ctx, t, c.task)
		out := newOutput()
		p, execExit := c.exec(ctx, t, "below", streamsTo(shared, below, out, out, false), "sh", "-c", untilTerm)
		for _, f := range []*flood{init, below} {
			select {
			case <-f.full:
			case <-ctx.Done():
				t.Fatal("the input does not get as far as the pipes")
			}
		}
		if got, code := c.exec1(ctx, t, "beside", nil, "echo", "beside"); got != "beside\n" || code != 0 {
			t.Errorf("output %q, status %d", got, code)
		}
		if err := p.CloseIO(ctx, containerd.WithStdinCloser); err != nil {
			t.Errorf("close stdin: %v", err)
		}
		awaitSignalled(t, int(p.Pid()), unix.SIGTERM)
		if code := status(ctx, t, execExit); code != 5 {
			t.Errorf("exec ended with %d", code)
		}
		if _, err := p.Delete(ctx); err != nil {
			t.Errorf("delete exec: %v", err)
		}
		awaitHandler(t, int(c.task.Pid()), unix.SIGTERM)
		kill(ctx, t, c.task, syscall.SIGTERM)
		if code := status(ctx, t, exit); code != 5 {
			t.Errorf("init ended with %d", code)
		}
		c.delete(ctx, t, 5)
	})
}
