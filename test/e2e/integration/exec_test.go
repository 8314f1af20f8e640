// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
)

// idle is a command that runs until it is killed.
var idle = []string{"sleep", "1000"}

func TestExec(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)

		if out, code := c.exec1(ctx, t, "output", nil, "sh", "-c", "echo hello; exit 9"); out != "hello\n" || code != 9 {
			t.Errorf("output %q, status %d", out, code)
		}
		if out, code := c.exec1(ctx, t, "input", strings.NewReader("line\n"), "head", "-n", "1"); out != "line\n" || code != 0 {
			t.Errorf("input came back as %q, status %d", out, code)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestExecCloseIO ends an exec's input.
func TestExecCloseIO(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)

		out, input := newOutput(), newPipe(t)
		p, catExit := c.exec(ctx, t, "cat", streamsTo(shared, input.r, out, out, false), "cat")
		input.write(t, "before the end\n")
		out.await(ctx, t, "before the end\n")
		if err := p.CloseIO(ctx, containerd.WithStdinCloser); err != nil {
			t.Errorf("close stdin: %v", err)
		}
		// containerd's end of the FIFO stays open while the client has input to copy.
		input.close(t)
		if code := status(ctx, t, catExit); code != 0 {
			t.Errorf("cat ended with %d", code)
		}
		if _, err := p.Delete(ctx); err != nil {
			t.Errorf("delete exec: %v", err)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestExecsAtOnce runs execs side by side, each with its own output and status.
func TestExecsAtOnce(t *testing.T) {
	const count = 32
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		var running sync.WaitGroup
		for i := range count {
			running.Go(func() {
				out, code := c.exec1(ctx, t, fmt.Sprint("exec", i), nil, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i))
				if out != fmt.Sprintln(i) || code != uint32(i) {
					t.Errorf("exec %d: output %q, status %d", i, out, code)
				}
			})
		}
		running.Wait()
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestPids wants the container's processes, and to which exec one belongs.
func TestPids(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		p, execExit := c.exec(ctx, t, "second", streamsTo(shared, nil, newOutput(), newOutput(), false), idle...)

		execs := map[uint32]string{}
		for _, pid := range must(c.task.Pids(ctx))(t) {
			execs[pid.Pid] = ""
			if pid.Info != nil {
				var details runcoptions.ProcessDetails
				if err := typeurl.UnmarshalTo(pid.Info, &details); err != nil {
					t.Errorf("details of %d: %v", pid.Pid, err)
				}
				execs[pid.Pid] = details.ExecID
			}
		}
		if id, ok := execs[c.task.Pid()]; !ok || id != "" {
			t.Errorf("init %d is not among the pids: %v", c.task.Pid(), execs)
		}
		if !r.guest && execs[p.Pid()] != "second" { // a machine is one process for all
			t.Errorf("exec %d is not among the pids: %v", p.Pid(), execs)
		}
		kill(ctx, t, p, syscall.SIGKILL)
		if code := status(ctx, t, execExit); code != 137 {
			t.Errorf("killed exec ended with %d", code)
		}
		if _, err := p.Delete(ctx); err != nil {
			t.Errorf("delete exec: %v", err)
		}
		if err := p.Kill(ctx, syscall.SIGKILL); !errdefs.IsNotFound(err) {
			t.Errorf("kill of a deleted exec: %v", err)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestInitEndsExecs kills a container under a running exec: both exits are told.
func TestInitEndsExecs(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		p, execExit := c.exec(ctx, t, "below", streamsTo(shared, nil, newOutput(), newOutput(), false), idle...)
		kill(ctx, t, c.task, syscall.SIGKILL)
		if code := status(ctx, t, execExit); code != 137 {
			t.Errorf("exec ended with %d", code)
		}
		code := status(ctx, t, exit)
		if code != 137 {
			t.Errorf("init ended with %d", code)
		}
		if _, err := p.Delete(ctx); err != nil {
			t.Errorf("delete exec: %v", err)
		}
		c.delete(ctx, t, code)
	})
}
