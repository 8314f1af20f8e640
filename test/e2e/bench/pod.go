// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

// container is one that runs "payload forever".
type container struct {
	d      *daemon.Daemon
	bundle *daemon.Bundle
	shim   *daemon.Shim
}

// phases are the durations of one life, by name.
type phases map[string]time.Duration

// timed runs f and records how long it took.
func (p phases) timed(name string, f func() error) error {
	begin := time.Now()
	err := f()
	p[name] = time.Since(begin)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// shape is how a container differs from the usual one.
type shape struct {
	edit   func(*specs.Spec)                           // may be nil
	rootfs func(bundle string) ([]*types.Mount, error) // nil for the daemon's
}

// up starts a container: "shim" from the start command to the connection, then
// "create" and "start".
func up(ctx context.Context, d *daemon.Daemon, id, group string) (*container, phases, error) {
	return upAs(ctx, d, id, group, shape{})
}

func upAs(ctx context.Context, d *daemon.Daemon, id, group string, s shape) (_ *container, p phases, err error) {
	c := &container{d: d}
	p = phases{}
	if c.bundle, err = d.Bundle(id, group, []string{"forever"}, s.edit); err != nil {
		return nil, nil, err
	}
	err = p.timed("shim", func() (err error) {
		c.shim, err = d.Start(ctx, c.bundle)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	req, err := d.CreateRequest(c.bundle, daemon.Streams{})
	if err != nil {
		return nil, nil, err
	}
	if s.rootfs != nil {
		if req.Rootfs, err = s.rootfs(c.bundle.Dir); err != nil {
			return nil, nil, err
		}
	}
	if err := p.timed("create", func() error { _, err := c.shim.Task.Create(ctx, req); return err }); err != nil {
		return nil, nil, err
	}
	err = p.timed("start", func() error {
		_, err := c.shim.Task.Start(ctx, &task.StartRequest{ID: id})
		return err
	})
	return c, p, err
}

// exec runs a process in the container from Exec to its exit, and deletes it.
// "exec" is from Exec to the exit, "delete" what follows.
func (c *container) exec(ctx context.Context, id string) (phases, error) {
	spec, err := typeurl.MarshalAnyToProto(daemon.Process("exit", "0"))
	if err != nil {
		return nil, err
	}
	p := phases{}
	err = p.timed("exec", func() error {
		if _, err := c.shim.Task.Exec(ctx, &task.ExecProcessRequest{ID: c.bundle.ID, ExecID: id, Spec: spec}); err != nil {
			return err
		}
		if _, err := c.shim.Task.Start(ctx, &task.StartRequest{ID: c.bundle.ID, ExecID: id}); err != nil {
			return err
		}
		_, err := c.shim.Task.Wait(ctx, &task.WaitRequest{ID: c.bundle.ID, ExecID: id})
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, p.timed("delete", func() error {
		_, err := c.shim.Task.Delete(ctx, &task.DeleteRequest{ID: c.bundle.ID, ExecID: id})
		return err
	})
}

// down ends the container: "kill" from the signal to the exit, "delete" for the
// Delete call, Shutdown, and the delete command that containerd waits for.
func (c *container) down(ctx context.Context, p phases) error {
	id := c.bundle.ID
	err := p.timed("kill", func() error {
		if _, err := c.shim.Task.Kill(ctx, &task.KillRequest{ID: id, Signal: uint32(unix.SIGKILL)}); err != nil {
			return err
		}
		_, err := c.shim.Task.Wait(ctx, &task.WaitRequest{ID: id})
		return err
	})
	if err != nil {
		return err
	}
	err = p.timed("delete", func() error {
		if _, err := c.shim.Task.Delete(ctx, &task.DeleteRequest{ID: id}); err != nil {
			return err
		}
		_, err := c.shim.Task.Shutdown(ctx, &task.ShutdownRequest{ID: id})
		if err != nil && !errors.Is(err, ttrpc.ErrClosed) {
			return err
		}
		return p.timed(deleteCommand, func() error {
			_, err := c.d.Delete(c.bundle)
			return err
		})
	})
	return errors.Join(err, ignoreClosed(c.shim.Close()), c.bundle.Close())
}

// ignoreClosed: the shim may have closed the connection before us.
func ignoreClosed(err error) error {
	if errors.Is(err, ttrpc.ErrClosed) {
		return nil
	}
	return err
}
