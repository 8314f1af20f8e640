// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/test/fakeoci"
)

func TestPauseAndResume(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	if err := c.Resume(r.ctx()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("resume of a running container: %v", err)
	}
	if err := c.Pause(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if st, _ := c.Status(""); st.State != Paused {
		t.Errorf("state %v", st.State)
	}
	if err := c.Exec(ExecRequest{ID: "e", Process: []byte("{}")}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("exec in a paused container: %v", err)
	}
	if err := c.Resume(r.ctx()); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.kill(c, "") // of a frozen process
	r.wait(c, "")
	r.expect(c, "create", "start", "paused", "resumed", "paused", "exit=137")
}

func TestErrorsOfStates(t *testing.T) {
	r := newRig(t)
	c := r.create("a", "sleep", fakeoci.Plan{})
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: c.Bundle()}); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second create: %v", err)
	}
	if _, err := c.Start(r.ctx(), "none"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("start of an unknown exec: %v", err)
	}
	if err := c.Pause(r.ctx()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("pause of a created container: %v", err)
	}
	if _, err := c.Start(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(r.ctx(), ""); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("second start: %v", err)
	}
	if _, err := c.Delete(r.ctx(), ""); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("delete of a running container: %v", err)
	}
	r.addExec(c, "e", "sleep")
	if err := c.Exec(ExecRequest{ID: "e"}); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("second exec of one id: %v", err)
	}
	if err := c.Kill(r.ctx(), "e", unix.SIGKILL, false); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("kill of an exec that was not started: %v", err)
	}
	if err := c.Resize("e", 80, 25); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("resize of an exec that was not started: %v", err)
	}
	for _, id := range []string{"", "../x", "a/b", ".", strings.Repeat("x", 200)} {
		if err := c.Exec(ExecRequest{ID: id}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("exec with the id %.20q: %v", id, err)
		}
		if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: id}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("create with the id %.20q: %v", id, err)
		}
	}
	r.kill(c, "")
	r.wait(c, "")
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGKILL} {
		if err := c.Kill(r.ctx(), "", sig, false); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("signal %d after exit: %v", sig, err)
		}
	}
	if pids, err := c.Pids(); err != nil || len(pids) != 1 || pids[0].Pid != c.init.pid() {
		t.Errorf("pids after exit: %v, %v", pids, err)
	}
}

// An exec that the runtime cannot start leaves nothing, ends its Wait and can
// be deleted; there was no start, so no exit is told.
func TestFailedExec(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"exec": {Fail: &fakeoci.Fail{Message: "no such thing in $PATH"}},
	}})
	r.addExec(c, "e", "sleep")
	if _, err := c.Start(r.ctx(), "e"); err == nil || !strings.Contains(err.Error(), "no such thing in $PATH") {
		t.Errorf("start: %v", err)
	}
	r.wait(c, "e")
	if _, err := c.Delete(r.ctx(), "e"); err != nil {
		t.Error(err)
	}
	r.expect(c, "create", "start", "exec-added:e")
}

// A create that fails at any step undoes those before.
func TestFailedCreateLeavesNothing(t *testing.T) {
	for name, plan := range map[string]fakeoci.Verb{
		"refused":     {Fail: &fakeoci.Fail{Message: "refused"}},
		"no pid file": {PidFile: "none"},
		"bad pid":     {PidFile: "what?"},
		"after work":  {Fail: &fakeoci.Fail{Message: "too late", AfterWork: true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			bundle := r.bundle("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"create": plan}})
			if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle}); err == nil {
				t.Fatal("no error")
			}
			if _, err := r.pod.Container("a"); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("container: %v", err)
			}
			if _, err := os.Stat(filepath.Join(bundle, recordName)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("record: %v", err)
			}
			if left, _ := os.ReadDir(r.root); len(left) > 0 {
				t.Errorf("the runtime keeps %v", left)
			}
			// The id is free again.
			fakeoci.Plan{}.Write(t, bundle)
			if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A client that disconnects in the middle of a create gets it undone.
func TestCreateOfAClientThatLeaves(t *testing.T) {
	r := newRig(t)
	reached := r.fifo("reached")
	bundle := r.bundle("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"create": {Reached: reached, Hang: "after"}}})
	ctx, leave := context.WithCancel(r.ctx())
	created := make(chan error, 1)
	go func() {
		_, err := r.pod.Create(ctx, &CreateRequest{ID: "a", Bundle: bundle})
		created <- err
	}()
	r.reached(reached)
	if r.pod.CloseIdle() {
		t.Error("the pod is idle during a create")
	}
	leave()
	if err := <-created; !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.root, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime keeps the container: %v", err)
	}
	if !r.pod.CloseUnwanted() {
		t.Error("the pod stays, though it was to close when it is idle")
	}
}

// A create that fails in a pod that nobody wanted to close does not close it.
func TestFailedCreateKeepsThePod(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"create": {Fail: &fakeoci.Fail{Message: "no"}}}})
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle}); err == nil {
		t.Fatal("no error")
	}
	if r.pod.CloseUnwanted() {
		t.Error("the pod was closed")
	}
	c := r.run("b", "sleep", fakeoci.Plan{})
	if r.pod.CloseIdle() { // asked for too early
		t.Fatal("the pod was closed with a container in it")
	}
	r.remove(c)
	r.run("c", "sleep", fakeoci.Plan{}) // and then wanted again
	if r.pod.CloseUnwanted() {
		t.Error("the pod was closed with a container in it")
	}
}

// A client that disconnects in the middle of a start does not stop it.
func TestStartOfAClientThatLeaves(t *testing.T) {
	r := newRig(t)
	reached, gate := r.fifo("reached"), r.fifo("gate")
	c := r.create("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"start": {Reached: reached, Before: gate}}})
	ctx, leave := context.WithCancel(r.ctx())
	started := make(chan error, 1)
	go func() {
		_, err := c.Start(ctx, "")
		started <- err
	}()
	r.reached(reached)
	leave()
	r.release(gate)
	if err := <-started; err != nil {
		t.Error(err)
	}
	r.expect(c, "create", "start")
}

// Deleting a created container kills its init first.
func TestDeleteCreated(t *testing.T) {
	r := newRig(t)
	c := r.create("a", "sleep", fakeoci.Plan{})
	d, err := c.Delete(r.ctx(), "")
	if err != nil || d.Exit.Status != 137 {
		t.Errorf("delete: %+v, %v", d, err)
	}
	r.expect(c, "create", "exit=137", "delete")
}

// A delete that the runtime refuses can be called again.
func TestDeleteAgain(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 2", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"delete": {Fail: &fakeoci.Fail{Message: "device busy"}, Times: 1},
	}})
	r.wait(c, "")
	if _, err := c.Delete(r.ctx(), ""); err == nil || !strings.Contains(err.Error(), "device busy") {
		t.Errorf("first delete: %v", err)
	}
	d, err := c.Delete(r.ctx(), "")
	if err != nil || d.Exit.Status != 2 {
		t.Errorf("second delete: %+v, %v", d, err)
	}
	r.expect(c, "create", "start", "exit=2", "delete")
}

// Two deletes at once: one of them deletes.
func TestConcurrentDeletes(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 0", fakeoci.Plan{})
	r.wait(c, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _, _ = c.Delete(r.ctx(), "") })
	}
	wg.Wait()
	r.expect(c, "create", "start", "exit=0", "delete")
}

// The last words of a container are delivered before Delete returns.
func TestOutputIsComplete(t *testing.T) {
	r := newRig(t)
	out := filepath.Join(r.dir, "out")
	bundle := r.bundle("a", "burst 300000", fakeoci.Plan{})
	_, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Stdio: process.Stdio{Stdout: "file://" + out}})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := r.pod.Container("a")
	if _, err := c.Start(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	r.wait(c, "")
	if _, err := c.Delete(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(out); err != nil || st.Size() != 300000 {
		t.Errorf("output: %v, %v", st, err)
	}
}

// Whoever waits learns of an exit that there is, also when the wait has just been
// called off: a shim that ends calls them all off.
func TestWaitPrefersTheExit(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 3", fakeoci.Plan{})
	ctx, cancel := context.WithCancelCause(r.ctx())
	r.wait(c, "")
	off := errors.New("called off")
	cancel(off)
	for range 100 { // of two that are ready, select takes any
		if exit, err := c.Wait(ctx, ""); err != nil || exit.Status != 3 {
			t.Fatalf("%+v, %v", exit, err)
		}
	}
	if _, err := r.run("b", "sleep", fakeoci.Plan{}).Wait(ctx, ""); !errors.Is(err, off) {
		t.Errorf("a wait that was called off: %v", err)
	}
}
