// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"

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
