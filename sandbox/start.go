// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// startTimeout bounds a start. It is finished whatever becomes of the request:
// an init that was let go cannot be called back.
const startTimeout = 5 * time.Minute

// Start lets the init go (exec empty), or starts an exec, and returns the pid.
func (c *Container) Start(ctx context.Context, exec string) (int, error) {
	if exec != "" {
		return c.startExec(ctx, exec)
	}
	if err := c.gate.enter(ctx); err != nil {
		return 0, err
	}
	defer c.gate.leave()
	c.mu.Lock()
	_, err := c.init.state.next(verbStart)
	if err == nil && c.ending {
		err = c.exitedError()
	}
	if err != nil {
		c.mu.Unlock()
		return 0, err
	}
	c.beginStartLocked()
	c.mu.Unlock()
	defer c.endStart()

	ctx, cancel := c.startContext(ctx)
	defer cancel()
	if c.req.Checkpoint != "" {
		return c.restore(ctx)
	}
	if err := c.rt.Start(ctx, c.req.ID); err != nil {
		return 0, err
	}
	return c.started()
}

// startContext is a context that outlives the request but not, for long, the
// init.
func (c *Container) startContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := bounded(ctx, startTimeout)
	stop := context.AfterFunc(c.starts, cancel)
	return ctx, func() { stop(); cancel() }
}

// started makes the init a running one and tells of it.
func (c *Container) started() (int, error) {
	c.mu.Lock()
	to, err := c.init.state.next(verbStart)
	if err != nil { // declared dead while the runtime hung
		c.mu.Unlock()
		return 0, err
	}
	c.init.state = to
	pid := c.init.pid()
	c.queueLocked(Event{Kind: TaskStart, Pid: pid})
	c.mu.Unlock()
	c.flush()
	return pid, nil
}

// restore makes the container from a checkpoint; its init runs at once.
func (c *Container) restore(ctx context.Context) (pid int, retErr error) {
	var u undo
	defer u.onError(ctx, &retErr)
	// As in create: criu, killed with its shim, leaves what it has restored by then.
	c.claimed = c.claimCgroup()
	u.add(func(ctx context.Context) error { return removeCgroup(ctx, c.claimed()) })
	init, err := c.rt.Create(ctx, c.runtimeRequest())
	if err != nil {
		return 0, err
	}
	u.add(func(ctx context.Context) error { return ignoreNotFound(c.rt.Delete(ctx, c.req.ID, true)) })
	u.add(func(context.Context) error { return ignoreNotFound(init.Signal(unix.SIGKILL)) })
	if err := c.init.streams.Attach(ctx); err != nil {
		return 0, err
	}
	u.add(func(context.Context) error { c.disown(); return nil })
	if err := c.adopt(init); err != nil {
		return 0, err
	}
	if pid, err = c.started(); err != nil {
		return 0, err
	}
	c.watchInit()
	return pid, nil
}

func (c *Container) exitedError() error {
	return fmt.Errorf("the init of container %q has exited: %w", c.req.ID, errdefs.ErrFailedPrecondition)
}
