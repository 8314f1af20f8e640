// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"testing"

	"berth/hooks"
	"berth/test/fakeoci"
)

// resident is a hook that hands its view of the pod out.
type resident struct {
	hooks.Sanity
	pod  chan hooks.Pod
	over chan struct{}
}

func (r resident) Serve(ctx context.Context, pod hooks.Pod) {
	r.pod <- pod
	<-ctx.Done()
	close(r.over)
}

func TestResidentHook(t *testing.T) {
	h := resident{pod: make(chan hooks.Pod, 1), over: make(chan struct{})}
	r := newRig(t, h)
	pod := <-h.pod
	a, b := r.run("a", "sleep", fakeoci.Plan{}), r.run("b", "sleep", fakeoci.Plan{})
	pid := a.init.os.Pid()
	if !pod.Has("a", pid) || pod.Has("b", pid) || pod.Has("none", pid) {
		t.Error("the process is not attributed to its container alone")
	}
	pod.Tell("a", hooks.Event{Topic: "/x", TypeURL: "T", Value: []byte("v")})
	pod.Tell("none", hooks.Event{})
	pod.Note("a", "why")
	pod.Note("none", "")
	for _, id := range []string{"a", "none"} {
		if err := pod.Kill(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	r.wait(a, "")
	r.expect(a, "create", "start", "hook=/x", "exit=137")
	r.expect(b, "create", "start")
	rec, err := readRecord(a.Bundle())
	if err != nil || rec.Exit == nil || len(rec.Notes) != 1 || rec.Notes[0] != "why" {
		t.Errorf("record %+v, %v; want the exit and the note", rec, err)
	}
	if err := pod.Kill(t.Context(), "a"); err != nil {
		t.Errorf("kill of a container that has exited: %v", err)
	}
	r.remove(a)
	r.remove(b)
	if err := r.pod.Close(context.Background()); err != nil {
		t.Error(err)
	}
	<-h.over // Close has waited for it
}
