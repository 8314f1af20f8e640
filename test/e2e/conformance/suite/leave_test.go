// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
	"berth/test/fakeoci"
)

// A client leaves while its call is with the runtime: the shim finishes the call
// or undoes it, and the next client finds it in order.
func TestClientLeaves(t *testing.T) {
	calls := map[string]func(c *container) error{
		"create": func(c *container) error { return c.create(noStreams) },
		"start":  func(c *container) error { return c.start() },
		"exec":   func(c *container) error { _, err := c.execFake("e", "exit", "3"); return err },
	}
	for verb, call := range calls {
		t.Run(verb, func(t *testing.T) {
			h := newFakeHost(t)
			c := h.fake("c", "", verbs(verb, fakeoci.Verb{Reached: h.hostGate("reached"), Before: h.hostGate("held"), Times: 1}), "sleep")
			bringTo(c, verb)
			leaver := c.redial()
			ctx, cancel := context.WithCancel(h.ctx)
			defer cancel()
			leaver.host = &host{Daemon: h.Daemon, t: t, ctx: ctx}
			done := make(chan error, 1)
			go func() { done <- call(leaver) }()
			h.open("reached", os.O_RDONLY)
			if err := leaver.shim.Close(); err != nil {
				t.Errorf("leave: %v", err)
			}
			cancel()
			<-done
			h.release("held")
			resume(c, verb, call)
		})
	}
}

// A client leaves while its delete is with the runtime, and another is there that
// met the container before it was gone. Neither will call Shutdown: the one has
// gone, the other does not know. The shim ends.
func TestClientLeavesDelete(t *testing.T) {
	h := newFakeHost(t)
	c := h.fake("c", "", verbs("delete", fakeoci.Verb{Reached: h.hostGate("reached"), Before: h.hostGate("held"), Times: 1}), "sleep")
	bringTo(c, "delete")
	shim, err := unix.PidfdOpen(c.shimPid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(shim)
	leaver := c.redial()
	done := make(chan struct{})
	go func() { defer close(done); _, _ = leaver.delete("") }()
	h.open("reached", os.O_RDONLY)
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if _, err := c.shim.Task.State(ctx, &task.StateRequest{ID: c.bundle.ID}); err != nil {
		t.Errorf("the container that is being deleted: %v", err)
	}
	if err := leaver.shim.Leave(); err != nil {
		t.Errorf("leave: %v", err)
	}
	<-done // the shim knows
	h.release("held")
	if !died(shim) {
		t.Fatal("the shim stays for nobody")
	}
	if d, err := c.Delete(c.bundle); err != nil || d.ExitStatus != 137 {
		t.Errorf("delete command: %v, %v", d, err)
	}
}

// redial returns the container over a connection of its own.
func (c *container) redial() *container {
	c.t.Helper()
	shim, err := daemon.Dial(c.ctx, c.shim.Address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { shim.Close() })
	other := *c
	other.shim = shim
	return &other
}

// resume takes the container from where the client left it to its end: the
// call that was cut off either took place or can be made again.
func resume(c *container, verb string, call func(*container) error) {
	c.t.Helper()
	err := call(c)
	for errdefs.IsAlreadyExists(err) && c.ctx.Err() == nil {
		// What was cut off is there, or is just being undone.
		if _, stateErr := c.shim.Task.State(c.ctx, &task.StateRequest{ID: c.bundle.ID}); !errdefs.IsNotFound(native(stateErr)) {
			break
		}
		err = call(c)
	}
	took := errdefs.IsAlreadyExists(err) || errdefs.IsFailedPrecondition(err) || errdefs.IsNotFound(err)
	if err != nil && !took {
		c.t.Errorf("%s by the next client: %v", verb, err)
	}
	if err := c.kill(unix.SIGKILL); err != nil {
		c.t.Errorf("kill: %v", err)
	}
	if status, err := c.wait(""); err != nil || status != 137 {
		c.t.Errorf("wait: status %d, error %v", status, err)
	}
	if _, err := c.delete(""); err != nil {
		c.t.Errorf("delete: %v", err)
	}
	c.leave()
}

// A shim that is given up because it does not come to answer finds, when it does, that
// its container was cleaned up meanwhile, and ends: nobody tells it any more.
func TestGivenUpShimLetsGo(t *testing.T) {
	if *shimFlag != "" && strings.Contains(filepath.Base(*shimFlag), "runc") {
		t.Skip("this one stays for a container that was cleaned up behind its back")
	}
	h := newFakeHost(t)
	c := h.fake("c", "", fakeoci.Plan{}, "sleep")
	c.up()
	pid := c.shimPid()
	shim, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(shim)
	c.shim.Close()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	d, err := c.Delete(c.bundle)
	if err != nil || d.ExitStatus != 137 {
		t.Errorf("delete command: %v, %v", d, err)
	}
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if !died(shim) {
		t.Error("the shim stays for nobody")
	}
}
