// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"io"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// pipe is input that a test writes as it goes.
type pipe struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newPipe(t *testing.T) *pipe {
	r, w := io.Pipe()
	t.Cleanup(func() { _ = w.Close() })
	return &pipe{r: r, w: w}
}

func (p *pipe) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(p.w, text); err != nil {
		t.Fatal(err)
	}
}

func (p *pipe) close(t *testing.T) {
	t.Helper()
	if err := p.w.Close(); err != nil {
		t.Error(err)
	}
}

func TestTerminal(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		input := newPipe(t)
		c := create(ctx, t, shared, r, request{
			args:     []string{"sh", "-c", "tty; echo ready; read line; stty size; exit 6"},
			terminal: true,
			stdin:    input.r,
		})
		exit := start(ctx, t, c.task)
		c.stdout.await(ctx, t, "ready\r\n")
		if err := c.task.Resize(ctx, 132, 43); err != nil {
			t.Errorf("resize: %v", err)
		}
		input.write(t, "go\n")
		code := status(ctx, t, exit)
		if code != 6 {
			t.Errorf("status %d, want 6", code)
		}
		input.close(t)
		c.delete(ctx, t, code)
		if want := "/dev/pts/0\r\nready\r\ngo\r\n43 132\r\n"; c.stdout.String() != want {
			t.Errorf("terminal showed %q, want %q", c.stdout, want)
		}
	})
}

func TestExecTerminal(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)

		input, out := newPipe(t), newOutput()
		p := must(c.task.Exec(ctx, "shell", &specs.Process{
			Args: []string{"sh", "-c", "echo ready; read line; stty size"}, Cwd: "/", Env: []string{"PATH=/bin"}, Terminal: true,
		}, cio.NewCreator(cio.WithStreams(input.r, out, nil), cio.WithTerminal, cio.WithFIFODir(shared.FIFODir()))))(t)
		execExit := start(ctx, t, p)
		out.await(ctx, t, "ready\r\n")
		if err := p.Resize(ctx, 90, 20); err != nil {
			t.Errorf("resize: %v", err)
		}
		input.write(t, "go\n")
		if code := status(ctx, t, execExit); code != 0 {
			t.Errorf("status %d", code)
		}
		input.close(t)
		if _, err := p.Delete(ctx); err != nil {
			t.Errorf("delete exec: %v", err)
		}
		if want := "ready\r\ngo\r\n20 90\r\n"; out.String() != want {
			t.Errorf("terminal showed %q, want %q", out, want)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}
