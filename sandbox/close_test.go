// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"berth/process"
	"berth/test/fakeoci"
)

// A pod that is closed stops watching what runs, says so, and has no watcher
// left; the containers are for a cleanup.
func TestCloseWithContainers(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.exec(c, "e", "sleep")
	r.answers("Close", func() {
		if err := r.pod.Close(context.Background()); err == nil {
			t.Error("Close does not tell of the container that is left")
		}
	})
	if d, err := r.cleanup(c); err != nil || d.Exit.Status != 137 {
		t.Errorf("cleanup: %+v, %v", d, err)
	}
	<-c.init.os.Done()
	<-c.execs["e"].os.Done()
	r.pod.work.Wait()
	r.expect(c, "create", "start", "exec-added:e", "exec-started:e")
	c.closeStreams(r.ctx())
	c.closeCgroup()
	r.pod.remove("a")
}

// The runtime is not asked to delete what runs, nor are its streams closed.
func TestDeleteOfARunningContainer(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.exec(c, "e", "sleep")
	for _, exec := range []string{"", "e"} {
		if _, err := c.Delete(r.ctx(), exec); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("delete of %q: %v", exec, err)
		}
	}
	if n := fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), "delete"); n != 0 {
		t.Error("the runtime was called")
	}
	if st, err := c.Status("e"); err != nil || st.State != Running {
		t.Errorf("status of the exec: %+v, %v", st, err)
	}
}

// The deletes of execs, and of a container with execs, close their streams
// (see TestMain).
func TestDeletesCloseStreams(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	for _, id := range []string{"e1", "e2"} {
		req := ExecRequest{ID: id, Process: []byte(`{"args":["fake","sleep"]}`), Stdio: process.Stdio{Stdin: r.fifo(id)}}
		if err := c.Exec(req); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Start(r.ctx(), id); err != nil {
			t.Fatal(err)
		}
	}
	r.kill(c, "e1")
	r.wait(c, "e1")
	if _, err := c.Delete(r.ctx(), "e1"); err != nil {
		t.Error(err)
	}
	r.remove(c)
}

// watched are streams that note on what terms they were drained.
type watched struct {
	Streams
	drains *[]time.Time // their deadlines; zero: it was called off
}

func (w watched) Drain(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	if ctx.Err() != nil {
		deadline = time.Time{}
	}
	*w.drains = append(*w.drains, deadline)
	return w.Streams.Drain(ctx)
}

// Output is delivered although nobody waits for the delete any more, and not for
// longer the more execs there are.
func TestDeleteDrainsForNobody(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	var drains []time.Time
	for _, id := range []string{"e1", "e2", "e3"} {
		r.exec(c, id, "sleep")
	}
	c.mu.Lock()
	c.init.streams = watched{c.init.streams, &drains}
	for _, e := range c.execs {
		e.streams = watched{e.streams, &drains}
	}
	c.mu.Unlock()
	r.kill(c, "e1")
	r.wait(c, "e1")
	r.kill(c, "")
	r.wait(c, "")
	gone, leave := context.WithCancel(r.ctx())
	leave()
	for _, exec := range []string{"e1", ""} {
		if _, err := c.Delete(gone, exec); err != nil {
			t.Errorf("delete of %q: %v", exec, err)
		}
	}
	if len(drains) != 4 || slices.ContainsFunc(drains, time.Time.IsZero) {
		t.Fatalf("drained on the terms %v", drains)
	}
	if rest := drains[1:]; slices.ContainsFunc(rest, func(d time.Time) bool { return d != rest[0] }) {
		t.Errorf("the container's streams are drained until %v", rest)
	}
}
