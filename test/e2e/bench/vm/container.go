// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

// container is the only one of its machine.
type container struct {
	d      *daemon.Daemon
	bundle *daemon.Bundle
	shim   *daemon.Shim
	vmm    int // the process of the virtual machine monitor
	own    int // the shim's
}

// up starts a container that says a word and lives on. The time is that from the
// `start` command to the first byte of the word.
func up(ctx context.Context, d *daemon.Daemon, id string, verb ...string) (*container, time.Duration, error) {
	c := &container{d: d}
	var err error
	if c.bundle, err = d.Bundle(id, "", verb, nil); err != nil {
		return nil, 0, err
	}
	out, reader, err := d.Pipe(ctx, id+"-out", syscall.O_RDONLY)
	if err != nil {
		return nil, 0, err
	}
	defer reader.Close()
	took, err := since(func() error {
		if c.shim, err = d.Start(ctx, c.bundle); err != nil {
			return err
		}
		req, err := d.CreateRequest(c.bundle, daemon.Streams{Stdout: out})
		if err != nil {
			return err
		}
		resp, err := c.shim.Task.Create(ctx, req)
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		c.vmm = int(resp.Pid)
		if _, err := c.shim.Task.Start(ctx, &task.StartRequest{ID: id}); err != nil {
			return fmt.Errorf("start: %w", err)
		}
		_, err = io.ReadFull(reader, make([]byte, 1))
		return err
	})
	if err != nil {
		return nil, 0, errors.Join(err, c.leave(ctx))
	}
	resp, err := c.shim.Task.Connect(ctx, &task.ConnectRequest{ID: id})
	if err != nil {
		return nil, 0, err
	}
	c.own = int(resp.ShimPid)
	return c, took, nil
}

// add has the container run one more process, with stdout as given.
func (c *container) add(ctx context.Context, id, stdout string, verb ...string) error {
	spec, err := typeurl.MarshalAnyToProto(daemon.Process(verb...))
	if err != nil {
		return err
	}
	if _, err := c.shim.Task.Exec(ctx, &task.ExecProcessRequest{ID: c.bundle.ID, ExecID: id, Spec: spec, Stdout: stdout}); err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	_, err = c.shim.Task.Start(ctx, &task.StartRequest{ID: c.bundle.ID, ExecID: id})
	return err
}

// reap waits for an exec and deletes it.
func (c *container) reap(ctx context.Context, id string) error {
	if _, err := c.shim.Task.Wait(ctx, &task.WaitRequest{ID: c.bundle.ID, ExecID: id}); err != nil {
		return err
	}
	_, err := c.shim.Task.Delete(ctx, &task.DeleteRequest{ID: c.bundle.ID, ExecID: id})
	return err
}

// exec times a process from Exec to its exit.
func (c *container) exec(ctx context.Context, id string) (took time.Duration, err error) {
	took, err = since(func() error {
		if err := c.add(ctx, id, "", "exit", "0"); err != nil {
			return err
		}
		resp, err := c.shim.Task.Wait(ctx, &task.WaitRequest{ID: c.bundle.ID, ExecID: id})
		if err == nil && resp.ExitStatus != 0 {
			err = fmt.Errorf("exec %s: status %d", id, resp.ExitStatus)
		}
		return err
	})
	return took, errors.Join(err, c.reap(ctx, id))
}

// stdout is the rate, in bytes a second, at which what an exec writes in pieces
// of size arrives, once it does.
func (c *container) stdout(ctx context.Context, id string, size int) (rate float64, err error) {
	const begun, measured = 4 << 20, 48 << 20
	path, reader, err := c.d.Pipe(ctx, c.bundle.ID+id, syscall.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	if err := c.add(ctx, id, path, "spam", fmt.Sprint(size)); err != nil {
		return 0, err
	}
	if _, err := io.CopyN(io.Discard, reader, begun); err != nil {
		return 0, err
	}
	took, err := since(func() error {
		_, err := io.CopyN(io.Discard, reader, measured)
		return err
	})
	if err != nil {
		return 0, err
	}
	_, err = c.shim.Task.Kill(ctx, &task.KillRequest{ID: c.bundle.ID, ExecID: id, Signal: uint32(unix.SIGKILL)})
	if err != nil {
		return 0, err
	}
	go io.Copy(io.Discard, reader) //nolint:errcheck // what is on the way; it ends with the reader
	return measured / took.Seconds(), c.reap(ctx, id)
}

// killMonitor kills the monitor, and times the event that tells of the exit.
func (c *container) killMonitor(ctx context.Context) (time.Duration, error) {
	return since(func() error {
		if err := unix.Kill(c.vmm, unix.SIGKILL); err != nil {
			return fmt.Errorf("kill the monitor: %w", err)
		}
		_, err := c.d.Events.Await(ctx, 1, func(e daemon.Event) bool {
			return e.Topic == "/tasks/exit" && e.ContainerID == c.bundle.ID && e.ExecID == ""
		})
		return err
	})
}

// down removes a container that has ended.
func (c *container) down(ctx context.Context) error {
	if _, err := c.shim.Task.Delete(ctx, &task.DeleteRequest{ID: c.bundle.ID}); err != nil {
		return errors.Join(err, c.leave(ctx))
	}
	return c.leave(ctx)
}

// leave is what containerd does after a container has gone, or did not come.
func (c *container) leave(ctx context.Context) error {
	var errs []error
	if c.shim != nil {
		_, err := c.shim.Task.Shutdown(ctx, &task.ShutdownRequest{ID: c.bundle.ID})
		errs = append(errs, ignoreClosed(err), ignoreClosed(c.shim.Close()))
		_, err = c.d.Delete(c.bundle)
		errs = append(errs, err)
	}
	if c.own > 0 { // it ends after its answer to Shutdown, and for that nobody else waits
		errs = append(errs, daemon.AwaitGone(c.own))
	}
	return errors.Join(append(errs, c.bundle.Close())...)
}

// ignoreClosed: the shim may have closed the connection before us.
func ignoreClosed(err error) error {
	if errors.Is(err, ttrpc.ErrClosed) {
		return nil
	}
	return err
}
