// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
	"berth/test/fakeoci"
)

// patience bounds a call that must not wait for a hang that is held until the
// test lets it go: whatever the value, a call that waits cannot meet it.
const patience = 5 * time.Second

// A runtime that hangs over one container of a pod: all that is asked about the
// other, and its whole life, goes on while the hang lasts.
func TestHungRuntimeSparesNeighbours(t *testing.T) {
	calls := map[string]func(c *container) error{
		"create": func(c *container) error { return c.create(daemon.Streams{}) },
		"start":  func(c *container) error { return c.start() },
		"exec": func(c *container) error {
			_, err := c.execFake("e", "exit", "0")
			return err
		},
		"kill":   func(c *container) error { return c.kill(unix.SIGTERM) },
		"delete": func(c *container) error { _, err := c.delete(""); return err },
	}
	for verb, call := range calls {
		t.Run(verb, func(t *testing.T) {
			h := newFakeHost(t)
			neighbour := h.fake("good", "pod", fakeoci.Plan{}, "sleep")
			neighbour.up()
			stuck := h.fake("stuck", "pod", verbs(verb, fakeoci.Verb{Reached: h.hostGate("reached"), Before: h.hostGate("held"), Times: 1}), "sleep")
			bringTo(stuck, verb)
			done := make(chan error, 1)
			go func() { done <- call(stuck) }()
			held := h.reached(done)
			if verb == "kill" && !held {
				t.Log("this shim does not ask the runtime to signal")
			}
			probe(neighbour)
			live(neighbour)
			if held {
				h.release("held")
				if err := <-done; err != nil {
					t.Errorf("%s, once the runtime went on: %v", verb, err)
				}
			}
			end(stuck, verb)
			neighbour.leave()
		})
	}
}

// reached waits until the runtime is held, or the call that was to reach it is
// over.
func (h *host) reached(done <-chan error) bool {
	h.t.Helper()
	at := make(chan error, 1)
	go func() { at <- h.meet("reached", os.O_RDONLY) }()
	select {
	case err := <-at:
		if err != nil {
			h.t.Fatalf("the runtime did not come so far: %v", err)
		}
		return true
	case err := <-done:
		if err != nil {
			h.t.Fatalf("call: %v", err)
		}
		f, err := os.OpenFile(h.Dir+"/share/reached", os.O_RDWR, 0) // ends the goroutine
		if err == nil {
			f.Close()
		}
		return false
	}
}

// bringTo takes the container to the state from which verb can be called.
func bringTo(c *container, verb string) {
	c.t.Helper()
	if verb == "create" {
		return
	}
	if err := c.create(daemon.Streams{}); err != nil {
		c.t.Fatalf("create: %v", err)
	}
	if verb == "start" {
		return
	}
	if err := c.start(); err != nil {
		c.t.Fatalf("start: %v", err)
	}
	if verb == "delete" {
		if err := c.kill(unix.SIGKILL); err != nil {
			c.t.Fatalf("kill: %v", err)
		}
		if _, err := c.wait(""); err != nil {
			c.t.Fatalf("wait: %v", err)
		}
	}
}

// end removes the container that was stuck.
func end(c *container, verb string) {
	c.t.Helper()
	if verb == "delete" {
		c.leave()
		return
	}
	c.remove()
}

// probe asks all that containerd asks of a container while nothing happens.
func probe(c *container) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	id := c.bundle.ID
	asks := map[string]func() error{
		"State":   func() error { _, err := c.shim.Task.State(ctx, &task.StateRequest{ID: id}); return err },
		"Connect": func() error { _, err := c.shim.Task.Connect(ctx, &task.ConnectRequest{ID: id}); return err },
		"Stats":   func() error { _, err := c.shim.Task.Stats(ctx, &task.StatsRequest{ID: id}); return err },
		"Pids":    func() error { _, err := c.shim.Task.Pids(ctx, &task.PidsRequest{ID: id}); return err },
	}
	for name, ask := range asks {
		err := ask()
		if err != nil && strings.Contains(err.Error(), "unknown command ps") {
			continue // a shim that asks the runtime; the fake one cannot say
		}
		if err != nil {
			c.t.Errorf("%s of %s: %v", name, id, err)
		}
	}
}

// live takes a running container of the fake runtime through an exec to its end.
func live(c *container) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	bounded := *c
	bounded.host = &host{Daemon: c.Daemon, t: c.t, ctx: ctx}
	if _, err := bounded.execFake("alive", "exit", "5"); err != nil {
		c.t.Errorf("exec in %s: %v", c.bundle.ID, err)
	} else if status, err := bounded.wait("alive"); err != nil || status != 5 {
		c.t.Errorf("wait for the exec in %s: status %d, error %v", c.bundle.ID, status, err)
	}
	if err := bounded.kill(unix.SIGKILL); err != nil {
		c.t.Errorf("kill %s: %v", c.bundle.ID, err)
	}
	if status, err := bounded.wait(""); err != nil || status != 137 {
		c.t.Errorf("wait %s: status %d, error %v", c.bundle.ID, status, err)
	}
	ofInit := func(e daemon.Event) bool { return exits(e) && e.ContainerID == c.bundle.ID && e.ExecID == "" }
	if _, err := c.Events.Await(ctx, 1, ofInit); err != nil {
		c.t.Errorf("exit of %s: %v", c.bundle.ID, err)
	}
	if _, err := bounded.delete(""); err != nil {
		c.t.Errorf("delete %s: %v", c.bundle.ID, err)
	}
}

// The runtime hangs over a call for a container: what is asked about that
// container is answered all the same, and so is its exit.
func TestHungCallSparesItself(t *testing.T) {
	calls := map[string]func(c *container) error{
		"kill":   func(c *container) error { return c.kill(unix.SIGTERM) },
		"pause":  func(c *container) error { return c.pause() },
		"update": func(c *container) error { return c.update() },
	}
	for verb, call := range calls {
		t.Run(verb, func(t *testing.T) {
			h := newFakeHost(t)
			plan := verbs(verb, fakeoci.Verb{Reached: h.hostGate("reached"), Before: h.hostGate("held"), Times: 1})
			c := h.fake("stuck", "", plan, "await "+h.hostGate("exit")+" ; exit 4")
			c.up()
			done := make(chan error, 1)
			go func() { done <- call(c) }()
			if !h.reached(done) {
				checkEnd(c, verb)
				c.remove()
				return
			}
			probe(c)
			h.open("exit", os.O_WRONLY)
			ctx, cancel := context.WithTimeout(h.ctx, patience)
			defer cancel()
			if _, err := h.Events.Await(ctx, 1, exits); err != nil {
				t.Errorf("exit: %v", err)
			}
			h.release("held")
			<-done // the process is gone: any answer will do
			c.remove()
		})
	}
}

// checkEnd is for a shim that does a verb without the runtime.
func checkEnd(c *container, verb string) {
	c.t.Helper()
	if verb != "kill" {
		return
	}
	if status, err := c.wait(""); err != nil || status != 128+uint32(unix.SIGTERM) {
		c.t.Errorf("wait: status %d, error %v", status, err)
	}
}

func (c *container) pause() error {
	_, err := c.shim.Task.Pause(c.ctx, &task.PauseRequest{ID: c.bundle.ID})
	return native(err)
}

func (c *container) update() error {
	limit := int64(1 << 30)
	resources, err := typeurl.MarshalAnyToProto(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
	if err != nil {
		return err
	}
	_, err = c.shim.Task.Update(c.ctx, &task.UpdateTaskRequest{ID: c.bundle.ID, Resources: resources})
	return native(err)
}
