// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/hooks"
	"berth/process"
	"berth/process/cgroup"
	"berth/process/oci"
)

// Exec is one more process in a container.
type Exec struct {
	proc
	gate gate   // start and delete of this exec
	spec []byte // the OCI process, as JSON
}

// ExecRequest asks for an exec.
type ExecRequest struct {
	ID string // unique in the container
	// Process is the OCI process, as JSON.
	Process []byte
	Stdio   process.Stdio
}

// Exec adds a process; Start starts it.
func (c *Container) Exec(r ExecRequest) error {
	if err := hooks.ValidID(r.ID); err != nil {
		return err
	}
	c.mu.Lock()
	_, err := c.init.state.next(verbExec)
	switch _, exists := c.execs[r.ID]; {
	case err != nil:
	case c.ending:
		err = c.exitedError()
	case exists:
		err = fmt.Errorf("exec %q in container %q exists: %w", r.ID, c.req.ID, errdefs.ErrAlreadyExists)
	default:
		c.execs[r.ID] = &Exec{proc: newProc(r.ID, r.Stdio), gate: newGate(), spec: r.Process}
		c.queueLocked(Event{Kind: TaskExecAdded, Exec: r.ID})
	}
	c.mu.Unlock()
	if err == nil {
		c.expectExec()
	}
	c.flush()
	return err
}

// expectExec has the kernel prepare for the exec's start, which follows at once,
// where a runtime has to put it into the cgroup: into a v2 one it is born.
func (c *Container) expectExec() {
	if cg, here := c.cgroup.Load().(localCgroup); here && cg.Location().Version != cgroup.V2 {
		cgroup.ExpectAttach()
	}
}

func (c *Container) startExec(ctx context.Context, id string) (int, error) {
	e, err := c.exec(id)
	if err != nil {
		return 0, err
	}
	if err := e.gate.enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.leave()
	if err := c.beginExec(e); err != nil {
		return 0, err
	}
	defer c.endStart()

	ctx, cancel := c.startContext(ctx)
	defer cancel()
	if err := c.runExec(ctx, e); err != nil {
		c.failExec(e)
		return 0, c.blameExit(err)
	}
	return e.os.Pid(), nil
}

func (c *Container) exec(id string) (*Exec, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.procLocked(id); err != nil {
		return nil, err
	}
	return c.execs[id], nil
}

// beginExec checks that the exec may start and has the init's exit wait for it.
func (c *Container) beginExec(e *Exec) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending {
		return c.exitedError()
	}
	if _, err := c.init.state.next(verbExec); err != nil {
		return err
	}
	if _, err := e.state.next(verbStart); err != nil {
		return err
	}
	c.beginStartLocked()
	return nil
}

// runExec starts the process and its watcher. On an error neither is left.
func (c *Container) runExec(ctx context.Context, e *Exec) (retErr error) {
	var u undo
	defer u.onError(ctx, &retErr)
	streams, err := c.openStreams(ctx, e.stdio)
	if err != nil {
		return err
	}
	u.add(func(context.Context) error { return streams.Close() })
	p, err := c.rt.Exec(ctx, &oci.ExecRequest{
		ID: c.req.ID, ExecID: e.id, Bundle: c.req.Bundle, Process: e.spec, Streams: streams,
	})
	if err != nil {
		return err
	}
	u.add(func(ctx context.Context) error { return killAndWait(ctx, p) })
	if err := streams.Attach(ctx); err != nil {
		return err
	}

	c.mu.Lock()
	defer c.flush()
	defer c.mu.Unlock()
	if c.init.state == Stopped { // declared dead while the runtime hung
		return c.exitedError()
	}
	to, err := e.state.next(verbStart)
	if err != nil {
		return err
	}
	e.state, e.os, e.streams, e.spec = to, p, streams, nil
	c.queueLocked(Event{Kind: TaskExecStarted, Exec: e.id, Pid: p.Pid()})
	c.pod.work.Add(1)
	go c.watchExec(e) // its exit is queued behind the start, c.mu being held
	return nil
}

// failExec ends an exec whose start failed.
func (c *Container) failExec(e *Exec) {
	c.mu.Lock()
	e.abandonLocked()
	c.mu.Unlock()
}

// blameExit says that the init has exited where an exec has failed and that is
// why, as far as one can tell: what the runtime says then is about whatever of
// the container it missed first.
func (c *Container) blameExit(err error) error {
	c.mu.Lock()
	init := c.init.os
	c.mu.Unlock()
	if init == nil || errdefs.IsFailedPrecondition(err) {
		return err
	}
	if !init.Ending() {
		return err
	}
	return fmt.Errorf("%w: %w", c.exitedError(), err)
}

// killAndWait ends a process that nobody else will hear of.
func killAndWait(ctx context.Context, p *process.Process) error {
	if err := ignoreNotFound(p.Signal(unix.SIGKILL)); err != nil {
		return err
	}
	select {
	case <-p.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("process %d does not die: %w", p.Pid(), ctx.Err())
	}
}
