// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"errors"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

// container is one container of a test, and the connection it is driven by.
type container struct {
	*host
	bundle *daemon.Bundle
	shim   *daemon.Shim
	pid    uint32
}

// prepare makes a bundle and starts its shim, or joins the group's.
func (h *host) prepare(id, group string, edit func(*specs.Spec), verb ...string) *container {
	h.t.Helper()
	bundle, err := h.Bundle(id, group, verb, edit)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if h.t.Failed() && bundle.Log() != "" {
			h.t.Logf("log of %s's shim:\n%s", id, bundle.Log())
		}
		if err := bundle.Close(); err != nil {
			h.t.Errorf("close bundle: %v", err)
		}
	})
	shim, err := h.Start(h.ctx, bundle)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { shim.Close() })
	return &container{host: h, bundle: bundle, shim: shim}
}

// create asks for the container of a prepared bundle.
func (c *container) create(streams daemon.Streams) error {
	c.t.Helper()
	req, err := c.CreateRequest(c.bundle, streams)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := c.shim.Task.Create(c.ctx, req)
	c.pid = resp.GetPid()
	return native(err)
}

func (c *container) start() error {
	_, err := c.shim.Task.Start(c.ctx, &task.StartRequest{ID: c.bundle.ID})
	return native(err)
}

// run is prepare, create and start, which must succeed.
func (h *host) run(id, group string, edit func(*specs.Spec), verb ...string) *container {
	h.t.Helper()
	c := h.prepare(id, group, edit, verb...)
	if err := c.create(daemon.Streams{}); err != nil {
		h.t.Fatalf("create %s: %v", id, err)
	}
	if err := c.start(); err != nil {
		h.t.Fatalf("start %s: %v", id, err)
	}
	return c
}

// exec adds and starts a process that runs a verb of payload.
func (c *container) exec(id string, streams daemon.Streams, verb ...string) (pid uint32, err error) {
	return c.execArgs(id, streams, daemon.Process(verb...).Args)
}

func (c *container) execArgs(id string, streams daemon.Streams, args []string) (pid uint32, err error) {
	if err := c.addExec(id, streams, args); err != nil {
		return 0, err
	}
	resp, err := c.shim.Task.Start(c.ctx, &task.StartRequest{ID: c.bundle.ID, ExecID: id})
	return resp.GetPid(), native(err)
}

func (c *container) addExec(id string, streams daemon.Streams, args []string) error {
	process := daemon.Process()
	process.Args = args
	spec, err := typeurl.MarshalAnyToProto(process)
	if err != nil {
		return err
	}
	_, err = c.shim.Task.Exec(c.ctx, &task.ExecProcessRequest{ID: c.bundle.ID, ExecID: id, Spec: spec,
		Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr})
	return native(err)
}

// wait returns the exit status of a process; "" is the init.
func (c *container) wait(execID string) (uint32, error) {
	resp, err := c.shim.Task.Wait(c.ctx, &task.WaitRequest{ID: c.bundle.ID, ExecID: execID})
	return resp.GetExitStatus(), native(err)
}

func (c *container) kill(signal unix.Signal) error {
	_, err := c.shim.Task.Kill(c.ctx, &task.KillRequest{ID: c.bundle.ID, Signal: uint32(signal)})
	return native(err)
}

func (c *container) delete(execID string) (*task.DeleteResponse, error) {
	resp, err := c.shim.Task.Delete(c.ctx, &task.DeleteRequest{ID: c.bundle.ID, ExecID: execID})
	return resp, native(err)
}

// remove ends the container as containerd does: kill, wait, delete, shut down,
// then the "delete" command.
func (c *container) remove() {
	c.t.Helper()
	if err := c.kill(unix.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
		c.t.Errorf("kill %s: %v", c.bundle.ID, err)
	}
	if _, err := c.wait(""); err != nil {
		c.t.Errorf("wait %s: %v", c.bundle.ID, err)
	}
	if _, err := c.delete(""); err != nil {
		c.t.Errorf("delete %s: %v", c.bundle.ID, err)
	}
	c.leave()
}

// leave is what follows the deletion of a task.
func (c *container) leave() {
	c.t.Helper()
	if err := c.shutdown(); err != nil {
		c.t.Errorf("shut down %s: %v", c.bundle.ID, err)
	}
	if _, err := c.Delete(c.bundle); err != nil {
		c.t.Errorf("delete command of %s: %v", c.bundle.ID, err)
	}
}

// shutdown asks the shim to go, which may cut the connection before the answer.
func (c *container) shutdown() error {
	_, err := c.shim.Task.Shutdown(c.ctx, &task.ShutdownRequest{ID: c.bundle.ID})
	if errors.Is(err, ttrpc.ErrClosed) {
		return nil
	}
	return native(err)
}

// shimPid asks the shim for its process ID.
func (c *container) shimPid() int {
	c.t.Helper()
	resp, err := c.shim.Task.Connect(c.ctx, &task.ConnectRequest{ID: c.bundle.ID})
	if err != nil {
		c.t.Fatalf("connect: %v", err)
	}
	return int(resp.ShimPid)
}

// native turns a ttrpc status into the error class that containerd sees.
func native(err error) error {
	if err == nil {
		return nil
	}
	return errgrpc.ToNative(err)
}
