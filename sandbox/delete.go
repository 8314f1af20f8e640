// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
)

const (
	// deleteTimeout bounds the runtime's part of a delete.
	deleteTimeout = 30 * time.Second
	// drainTimeout bounds how long a slow but living reader is waited for, whatever
	// becomes of the caller: what is not read then is lost.
	drainTimeout = 10 * time.Second
)

// Deleted is what is left to say of a deleted process.
type Deleted struct {
	Pid  int
	Exit process.Exit
	// Left is set by Cleanup where there was something to clean up.
	Left bool
}

// Delete removes an exec, or with exec empty the whole container. All output
// was delivered when it returns. It can be called again after an error.
func (c *Container) Delete(ctx context.Context, exec string) (Deleted, error) {
	if exec != "" {
		return c.deleteExec(ctx, exec)
	}
	if err := c.gate.enter(ctx); err != nil {
		return Deleted{}, err
	}
	defer c.gate.leave()
	if c.deleted {
		return Deleted{}, fmt.Errorf("container %q was deleted already: %w", c.req.ID, errdefs.ErrNotFound)
	}
	if err := c.stopCreated(ctx); err != nil {
		return Deleted{}, err
	}
	c.mu.Lock()
	d := Deleted{Pid: c.init.pid(), Exit: c.init.exit}
	_, err := c.init.state.next(verbDelete)
	c.mu.Unlock()
	if err != nil {
		return Deleted{}, err
	}
	if err := c.tearDown(ctx); err != nil {
		return Deleted{}, err
	}
	c.warn(c.updateRecord(func(r *record) { r.Exit, r.Clean = newExitRecord(d.Exit), true }), "the delete is not on record")
	c.mu.Lock()
	c.queueLocked(Event{Kind: TaskDelete, Pid: d.Pid, Exit: d.Exit})
	c.mu.Unlock()
	c.flush()
	c.deleted = true
	c.pod.remove(c.req.ID)
	return d, nil
}

// stopCreated kills an init that was never started, so that its container can
// be deleted.
func (c *Container) stopCreated(ctx context.Context) error {
	c.mu.Lock()
	state, os := c.init.state, c.init.os
	if state == Created && os == nil { // to be restored, but never was
		c.ending = true
		c.init.abandonLocked()
	}
	c.mu.Unlock()
	if state != Created || os == nil {
		return nil
	}
	if err := ignoreNotFound(os.Signal(unix.SIGKILL)); err != nil {
		return err
	}
	c.thawForeign()
	_, err := c.Wait(ctx, "")
	return err
}

// tearDown undoes create. Every step may be done again.
func (c *Container) tearDown(ctx context.Context) error {
	c.closeStreams(ctx)
	ctx, cancel := bounded(ctx, deleteTimeout)
	defer cancel()
	c.thaw()
	err := c.rt.Delete(ctx, c.req.ID, false)
	if errdefs.IsNotFound(err) { // as after a `runc delete`, or where its state was lost
		err = c.removeCgroup(ctx)
	}
	if err != nil {
		return err
	}
	c.closeCgroup()
	c.cutStarts()
	return errors.Join(c.at.Unmount(c.req.Bundle), c.pod.cfg.Hooks.Delete(ctx, c.req.ID))
}

// removeCgroup removes the cgroup of a container that the runtime does not know. That
// of a guest goes with the guest.
func (c *Container) removeCgroup(ctx context.Context) error {
	cg, here := c.cgroup.Load().(localCgroup)
	if !here {
		return nil
	}
	if err := cg.Remove(ctx); err != nil {
		return fmt.Errorf("remove the cgroup of a container that the runtime does not know: %w", err)
	}
	return nil
}

func (c *Container) closeCgroup() {
	if c.oom != nil {
		_ = c.oom.Close()
		c.oom = nil
	}
	if cg := c.cgroup.Clear(); cg != nil {
		_ = cg.Close()
	}
}

// closeStreams delivers the rest of all output and closes it.
func (c *Container) closeStreams(ctx context.Context) {
	c.mu.Lock()
	all := []Streams{c.init.streams}
	for _, e := range c.execs {
		all = append(all, e.streams)
		e.abandonLocked()
	}
	c.mu.Unlock()
	ctx, cancel := bounded(ctx, drainTimeout) // for all of them
	defer cancel()
	for _, s := range all {
		c.closeStream(ctx, s)
	}
}

func (c *Container) closeStream(ctx context.Context, s Streams) {
	if s == nil {
		return
	}
	c.warn(s.Drain(ctx), "output is incomplete")
	c.warn(s.Close(), "close streams")
}

func (c *Container) deleteExec(ctx context.Context, id string) (Deleted, error) {
	e, err := c.exec(id)
	if err != nil {
		return Deleted{}, err
	}
	if err := e.gate.enter(ctx); err != nil {
		return Deleted{}, err
	}
	defer e.gate.leave()
	c.mu.Lock()
	if _, err := e.state.next(verbDelete); err != nil {
		c.mu.Unlock()
		return Deleted{}, fmt.Errorf("exec %q: %w", id, err)
	}
	e.abandonLocked()
	d := Deleted{Pid: e.pid(), Exit: e.exit}
	streams := e.streams
	c.mu.Unlock()
	ctx, cancel := bounded(ctx, drainTimeout)
	defer cancel()
	c.closeStream(ctx, streams)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.execs[id] != e {
		return Deleted{}, fmt.Errorf("exec %q was deleted already: %w", id, errdefs.ErrNotFound)
	}
	delete(c.execs, id)
	return d, nil
}
