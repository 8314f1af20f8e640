// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"berth/hooks"
	"berth/test/fakeoci"
)

// A container that is on its way keeps the pod, until it was made and deleted, or
// is known not to come.
func TestExpectedContainerKeepsThePod(t *testing.T) {
	r := newRig(t)
	expect := func(id string) {
		t.Helper()
		if err := r.pod.Expect(id); err != nil {
			t.Fatal(err)
		}
	}
	expect("a")
	expect("b")
	if r.pod.Dismiss("c") || r.pod.CloseIdle() {
		t.Fatal("the pod is idle with two on their way")
	}
	r.remove(r.run("a", "sleep", fakeoci.Plan{}))
	if r.pod.Dismiss("a") || r.pod.CloseIdle() {
		t.Fatal("the pod is idle with one on its way")
	}
	if !r.pod.Dismiss("b") || !r.pod.CloseIdle() {
		t.Fatal("the pod stays")
	}
	if err := r.pod.Expect("d"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a closed pod expects: %v", err)
	}
}

func TestDesertedPodCloses(t *testing.T) {
	r := newRig(t)
	if err := r.pod.Expect("a"); err != nil {
		t.Fatal(err)
	}
	if !r.pod.CloseDeserted() {
		t.Error("the pod waits for who has gone")
	}
}

// broken is a hook with a bug that one container meets.
type broken struct{ id string }

func (broken) Name() string                         { return "broken" }
func (broken) Delete(context.Context, string) error { return nil }

func (b broken) Create(_ context.Context, spec *hooks.Spec) error {
	if spec.ID() == b.id {
		panic("a test's")
	}
	return nil
}

// A bug that one container meets fails that container alone.
func TestPanicOfACreate(t *testing.T) {
	r := newRig(t, broken{"a"})
	beside := r.run("b", "sleep", fakeoci.Plan{})
	_, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: r.bundle("a", "sleep", fakeoci.Plan{})})
	if !errors.Is(err, errdefs.ErrInternal) {
		t.Fatalf("create: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "a", recordName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a record is left: %v", err)
	}
	if _, err := r.pod.Container("a"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("the pod keeps it: %v", err)
	}
	if st, _ := beside.Status(""); st.State != Running {
		t.Errorf("the container beside it is %v", st.State)
	}
}

// A watcher with a bug ends its container, whose end is told.
func TestPanicOfAWatcher(t *testing.T) {
	r := newRig(t)
	c, beside := r.run("a", "sleep", fakeoci.Plan{}), r.run("b", "sleep", fakeoci.Plan{})
	func() {
		defer c.afterPanic(&c.init)
		panic("a test's")
	}()
	if exit, err := c.Wait(r.ctx(), ""); exit.Status != killed || err != nil {
		t.Errorf("exit %+v, %v", exit, err)
	}
	select {
	case <-c.init.os.Done():
	case <-r.ctx().Done():
		t.Error("its init lives")
	}
	r.expect(c, "create", "start", "exit=137")
	if st, _ := beside.Status(""); st.State != Running {
		t.Errorf("the container beside it is %v", st.State)
	}
}
