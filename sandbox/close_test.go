// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"testing"

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
		if err := r.pod.Close(); err == nil {
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
