// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process/oci"
)

const (
	// verbTimeout bounds pause, resume and update, which are writes to a few
	// files of the kernel's and take milliseconds.
	verbTimeout = time.Minute
	// checkpointTimeout bounds a checkpoint, which writes all of a container's
	// memory to disk.
	checkpointTimeout = 10 * time.Minute
)

// Pause freezes all processes of the container.
func (c *Container) Pause(ctx context.Context) error {
	return c.change(ctx, verbPause, Event{Kind: TaskPaused}, c.rt.Pause)
}

// Resume thaws them. A container that something else has thawed already is
// resumed all the same: it must not stay paused in name alone.
func (c *Container) Resume(ctx context.Context) error {
	return c.change(ctx, verbResume, Event{Kind: TaskResumed}, func(ctx context.Context, id string) error {
		err := c.rt.Resume(ctx, id)
		if cg := c.cgroup.Load(); err != nil && cg != nil {
			if frozen, frozenErr := cg.Frozen(); frozenErr == nil && !frozen {
				return nil
			}
		}
		return err
	})
}

// change runs a verb of the runtime that leads to another state.
func (c *Container) change(ctx context.Context, v verb, e Event, do func(context.Context, string) error) error {
	return c.inState(ctx, v, verbTimeout, func(ctx context.Context) error {
		if err := do(ctx, c.req.ID); err != nil {
			return err
		}
		c.mu.Lock()
		to, err := c.init.state.next(v)
		if err == nil {
			c.init.state = to
			c.queueLocked(e)
		}
		c.mu.Unlock()
		c.flush()
		if err != nil { // it has exited meanwhile, and shall not stay frozen
			c.thaw()
		}
		return err
	})
}

// thaw lets the cgroup of a container that has exited run. The freezer keeps
// its state without processes, and to the runtime such a container is a paused
// one, which it does not delete.
func (c *Container) thaw() {
	cg := c.cgroup.Load()
	if cg == nil {
		return
	}
	if frozen, err := cg.Frozen(); err == nil && frozen {
		c.warn(cg.Thaw(), "the cgroup stays frozen")
	}
}

// inState runs a slow call, alone in its container, if the state allows v.
// Once begun it is finished, even if the caller has gone.
func (c *Container) inState(ctx context.Context, v verb, limit time.Duration, do func(context.Context) error) error {
	if err := c.gate.enter(ctx); err != nil {
		return err
	}
	defer c.gate.leave()
	c.mu.Lock()
	_, err := c.init.state.next(v)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := bounded(ctx, limit)
	defer cancel()
	return do(ctx)
}

// Update changes the container's resources, an OCI LinuxResources as JSON.
func (c *Container) Update(ctx context.Context, resources []byte) error {
	return c.inState(ctx, verbUpdate, verbTimeout, func(ctx context.Context) error {
		resources, err := c.pod.cfg.Hooks.Update(ctx, c.req.Bundle, resources)
		if err != nil {
			return err
		}
		return c.rt.Update(ctx, c.req.ID, resources)
	})
}

// Checkpoint writes the container's state to r.ImagePath, or to the directory
// that the options name. r.ID is ignored.
func (c *Container) Checkpoint(ctx context.Context, r oci.CheckpointRequest) error {
	rt, ok := c.rt.(Checkpointer)
	if !ok {
		return fmt.Errorf("this runtime cannot checkpoint: %w", errdefs.ErrNotImplemented)
	}
	r.ID = c.req.ID
	if r.ImagePath == "" {
		r.ImagePath = c.req.Options.CriuImagePath
	}
	if r.ImagePath == "" {
		return fmt.Errorf("neither the request nor CriuImagePath says where the checkpoint shall go: %w", errdefs.ErrInvalidArgument)
	}
	if r.WorkPath == "" {
		r.WorkPath = c.criuWorkPath()
	}
	if err := os.MkdirAll(r.WorkPath, 0o711); err != nil {
		return fmt.Errorf("make the directory for CRIU's logs: %w", err)
	}
	return c.inState(ctx, verbCheckpoint, checkpointTimeout, func(ctx context.Context) error {
		if err := rt.Checkpoint(ctx, &r); err != nil {
			return err
		}
		c.mu.Lock()
		c.queueLocked(Event{Kind: TaskCheckpointed, Checkpoint: r.ImagePath})
		c.mu.Unlock()
		c.flush()
		return nil
	})
}

// Kill sends a signal to a process, or with all to every process of the
// container. It passes no gate and calls no runtime, so that it works
// whatever hangs. A process that has exited is errdefs.ErrNotFound.
func (c *Container) Kill(ctx context.Context, exec string, sig unix.Signal, all bool) error {
	c.mu.Lock()
	p, err := c.procLocked(exec)
	if err != nil {
		c.mu.Unlock()
		return err
	}
	state, os := p.state, p.os
	c.mu.Unlock()
	cg := c.cgroup.Load()
	switch {
	case state == Stopped:
		return fmt.Errorf("process already finished: %w", errdefs.ErrNotFound)
	case os == nil:
		return fmt.Errorf("the process was not started yet: %w", errdefs.ErrFailedPrecondition)
	case all && exec == "" && cg != nil && sig == unix.SIGKILL:
		err = cg.Kill(ctx)
		if errdefs.IsFailedPrecondition(err) {
			err = nil // it shares its cgroup: the init is all that is known to be its own
		}
		return errors.Join(ignoreNotFound(os.Signal(sig)), err)
	case all && exec == "" && cg != nil:
		if err := cg.Signal(ctx, sig); !errdefs.IsFailedPrecondition(err) {
			return err
		}
	}
	if err := os.Signal(sig); err != nil {
		return err
	}
	// A frozen process dies only when it thaws (cgroup v1). An exec has no
	// such state: it stays frozen with its container, and dies at Resume.
	switch {
	case state == Paused && sig == unix.SIGKILL && cg != nil:
		return cg.Thaw()
	case exec == "" && sig == unix.SIGKILL:
		c.thawForeign()
	}
	return nil
}

// thawForeign undoes what somebody else, as `runc pause`, has done to a container
// that is to die. In a guest there is nobody else.
func (c *Container) thawForeign() {
	if _, here := c.cgroup.Load().(localCgroup); here {
		c.thaw()
	}
}

// Pid is a process in a container.
type Pid struct {
	Pid  int
	Exec string // the exec that it is the process of, if any
}

// Pids lists the container's processes, as the kernel knows them. An init that
// has exited stays in the list until it is deleted, as a zombie would: to a
// containerd that restarts, a container without processes is one that leaked,
// and it would throw the exit away that it was not there to hear of
// (core/runtime/v2/shim_load.go, shouldCleanupShim).
func (c *Container) Pids() ([]Pid, error) {
	cg := c.cgroup.Load()
	c.mu.Lock()
	init, stopped := c.init.pid(), c.init.state == Stopped
	execs := make(map[int]string, len(c.execs))
	for id, e := range c.execs {
		if e.os != nil && e.state != Stopped && e.pid() != init { // in a guest they all have one pid
			execs[e.pid()] = id
		}
	}
	c.mu.Unlock()
	switch {
	case init == 0:
		return nil, nil
	case stopped, cg == nil:
		return []Pid{{Pid: init}}, nil
	}
	pids, err := cg.Pids()
	if err != nil {
		return nil, err
	}
	out := make([]Pid, 0, len(pids))
	for _, pid := range pids {
		out = append(out, Pid{Pid: pid, Exec: execs[pid]})
	}
	return out, nil
}

// Stats appends the container's metrics, encoded as the message that typeURL
// names, to dst.
func (c *Container) Stats(dst []byte) (encoded []byte, typeURL string, err error) {
	cg := c.cgroup.Load()
	if cg == nil {
		return nil, "", fmt.Errorf("container %q has no cgroup: %w", c.req.ID, errdefs.ErrNotFound)
	}
	return cg.Stats(dst)
}

// Resize sets the size of a process's terminal, in characters.
func (c *Container) Resize(exec string, width, height uint16) error {
	streams, err := c.streams(exec)
	if err != nil {
		return err
	}
	return streams.Resize(width, height)
}

// CloseStdin has a process's stdin end once all that was sent is delivered.
func (c *Container) CloseStdin(exec string) error {
	streams, err := c.streams(exec)
	if err != nil {
		return err
	}
	return streams.CloseStdin()
}

func (c *Container) streams(exec string) (Streams, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.procLocked(exec)
	if err != nil {
		return nil, err
	}
	if p.streams == nil {
		return nil, fmt.Errorf("the process was not started yet: %w", errdefs.ErrFailedPrecondition)
	}
	return p.streams, nil
}
