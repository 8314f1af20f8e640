// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/test/fakeoci"
)

// gone is the context of a client that has gone: what would wait, gives up.
func gone() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// answers fails the test if a call takes for ever.
func (r *rig) answers(what string, call func()) {
	r.Helper()
	done := make(chan struct{})
	go func() {
		call()
		close(done)
	}()
	select {
	case <-done:
	case <-r.ctx().Done():
		r.Fatalf("%s is not answered while the runtime hangs", what)
	}
}

// fromMemory checks that what passes no gate is answered.
func (r *rig) fromMemory(c *Container, state State) {
	r.Helper()
	r.answers("State", func() {
		if st, err := c.Status(""); err != nil || st.State != state {
			r.Errorf("status %+v, %v, want %v", st, err, state)
		}
	})
	r.answers("Pids", func() {
		if pids, err := c.Pids(); err != nil || len(pids) == 0 {
			r.Errorf("pids %v, %v", pids, err)
		}
	})
	r.answers("Stats", func() {
		if _, _, err := c.Stats(nil); err != nil {
			r.Errorf("stats: %v", err)
		}
	})
	r.answers("Wait", func() {
		_, err := c.Wait(gone(), "")
		if state != Stopped && !errors.Is(err, context.Canceled) {
			r.Errorf("wait: %v", err)
		}
	})
}

// A verb that hangs in the runtime keeps nothing else from being answered, and
// what it comes to after the exit changes nothing. Another call that changes
// the container waits for it, and can be given up.
func TestHungVerbs(t *testing.T) {
	verbs := map[string]func(*rig, *Container) error{
		"pause":  func(r *rig, c *Container) error { return c.Pause(r.ctx()) },
		"update": func(r *rig, c *Container) error { return c.Update(r.ctx(), []byte("{}")) },
	}
	for verb, call := range verbs {
		t.Run(verb, func(t *testing.T) {
			r := newRig(t)
			worked, gate := r.fifo("worked"), r.fifo("gate")
			c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{verb: {Worked: worked, After: gate}}})
			done := make(chan error, 1)
			go func() { done <- call(r, c) }()
			r.reached(worked)
			r.fromMemory(c, Running)
			before := len(fakeoci.Calls(t, c.Bundle()))
			if err := c.Update(gone(), []byte("{}")); !errors.Is(err, context.Canceled) {
				t.Errorf("an update beside: %v", err)
			}
			if _, err := c.Delete(gone(), ""); !errors.Is(err, context.Canceled) {
				t.Errorf("a delete beside: %v", err)
			}
			if after := len(fakeoci.Calls(t, c.Bundle())); after != before {
				t.Error("the runtime was called beside a call")
			}
			r.answers("Kill", func() { r.kill(c, "") })
			r.answers("the exit", func() { r.wait(c, "") })
			r.fromMemory(c, Stopped)
			r.release(gate)
			if err := <-done; (verb == "pause") != errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Errorf("%s: %v", verb, err)
			}
			if st, err := c.Status(""); err != nil || st.State != Stopped {
				t.Errorf("status %+v, %v", st, err)
			}
			r.expect(c, "create", "start", "exit=137")
		})
	}
}

// A delete that hangs in the runtime holds up nothing but its own container's
// delete.
func TestHungDelete(t *testing.T) {
	r := newRig(t)
	reached, gate := r.fifo("reached"), r.fifo("gate")
	c := r.run("a", "exit 3", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"delete": {Reached: reached, Before: gate}}})
	r.wait(c, "")
	other := r.run("b", "sleep", fakeoci.Plan{})
	ctx, leave := context.WithCancel(r.ctx())
	done := make(chan error, 1)
	go func() {
		_, err := c.Delete(ctx, "")
		done <- err
	}()
	r.reached(reached)
	r.fromMemory(c, Stopped)
	r.answers("Kill", func() { _ = c.Kill(r.ctx(), "", unix.SIGKILL, false) })
	if _, err := c.Delete(gone(), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a second delete: %v", err)
	}
	if n := fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), "delete"); n != 1 {
		t.Errorf("the runtime was asked %d times", n)
	}
	r.answers("another container's delete", func() {
		r.kill(other, "")
		r.wait(other, "")
		if _, err := other.Delete(r.ctx(), ""); err != nil {
			t.Error(err)
		}
	})
	r.answers("another container's create", func() { r.run("c", "sleep", fakeoci.Plan{}) })
	leave() // a delete that was begun is finished
	r.release(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.expect(c, "create", "start", "exit=3", "delete")
}

// A start is made once, whoever asks beside it.
func TestHungStart(t *testing.T) {
	r := newRig(t)
	reached, gate := r.fifo("reached"), r.fifo("gate")
	hang := fakeoci.Verb{Reached: reached, Before: gate}
	c := r.create("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"start": hang, "exec:e": hang}})
	for _, exec := range []string{"", "e"} {
		key := "start"
		if exec != "" {
			key = "exec:e"
			r.addExec(c, exec, "sleep")
		}
		done := make(chan error, 1)
		go func() {
			_, err := c.Start(r.ctx(), exec)
			done <- err
		}()
		r.reached(reached)
		if _, err := c.Start(gone(), exec); !errors.Is(err, context.Canceled) {
			t.Errorf("a second %s: %v", key, err)
		}
		if _, err := c.Delete(gone(), exec); !errors.Is(err, context.Canceled) {
			t.Errorf("a delete beside %s: %v", key, err)
		}
		r.release(gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := c.Start(r.ctx(), exec); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s of what was started: %v", key, err)
		}
		if n := fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), key); n != 1 {
			t.Errorf("the runtime was asked %d times for %s", n, key)
		}
	}
}

// An exec that was added in time is not started in a paused container, nor one
// that failed to start once more.
func TestExecStates(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"exec:bad": {Fail: &fakeoci.Fail{Message: "refused"}, Times: 1},
	}})
	r.addExec(c, "e", "sleep")
	r.addExec(c, "bad", "sleep")
	if _, err := c.Start(r.ctx(), "bad"); err == nil {
		t.Error("a start that the runtime refuses")
	}
	if _, err := c.Start(r.ctx(), "bad"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start after a failed one: %v", err)
	}
	if err := c.Pause(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(r.ctx(), "e"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start in a paused container: %v", err)
	}
	if n := fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), "exec"); n != 1 {
		t.Errorf("the runtime was asked %d times", n)
	}
	// An exec that was never started: its delete ends its Wait.
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		_, _ = c.Wait(r.ctx(), "e")
	}()
	e := c.execs["e"]
	if _, err := c.Delete(r.ctx(), "e"); err != nil {
		t.Error(err)
	}
	select {
	case <-e.exited:
	default:
		t.Error("the exec that was deleted has not ended")
	}
	<-waited
	if err := c.Resume(r.ctx()); err != nil {
		t.Error(err)
	}
}

// Deleting a container ends the Wait of an exec that was never started.
func TestDeleteEndsWaits(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.addExec(c, "e", "sleep")
	e := c.execs["e"]
	r.remove(c)
	select {
	case <-e.exited:
	default:
		t.Error("the exec has not ended")
	}
	if story := r.story(c); slices.Contains(story, "exit:e=255") {
		t.Errorf("an exit without a start: %v", story)
	}
}

// The sink takes the events of one container one at a time.
func TestSinkIsNotReentered(t *testing.T) {
	r := newRig(t)
	inner := r.pod.cfg.Sink
	var inside atomic.Int32
	r.pod.cfg.Sink = func(e Event) {
		if inside.Add(1) != 1 {
			t.Error("the sink was called while it was taking an event")
		}
		for range 100 {
			runtime.Gosched()
		}
		inner(e)
		inside.Add(-1)
	}
	c := r.run("a", "sleep", fakeoci.Plan{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { r.addExec(c, fmt.Sprint("e", i), "sleep") })
	}
	wg.Wait()
	r.kill(c, "")
	r.wait(c, "")
	story := r.story(c)
	if len(story) != 53 || story[52] != "exit=137" {
		t.Errorf("told %v", story)
	}
}
