// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"berth/test/fakeoci"
)

// freeze does to the cgroup what runc's pause does. The fake's only stops.
func (r *rig) freeze(c *Container) {
	r.Helper()
	file, word := filepath.Join("/sys/fs/cgroup/freezer", r.cgroup(c.req.ID), "freezer.state"), "FROZEN"
	if _, err := os.Stat(file); err != nil {
		file, word = filepath.Join("/sys/fs/cgroup", r.cgroup(c.req.ID), "cgroup.freeze"), "1"
	}
	if err := os.WriteFile(file, []byte(word), 0); err != nil {
		r.Fatal(err)
	}
}

// To kill an exec of a paused container is not to thaw the container. The exec
// dies when it is resumed.
func TestKillOfAnExecInAPausedContainer(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.exec(c, "e", "sleep")
	if err := c.Pause(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.freeze(c)
	r.kill(c, "e")
	if frozen, err := c.cgroup.Load().Frozen(); err != nil || !frozen {
		t.Errorf("frozen: %t, %v", frozen, err)
	}
	if err := c.cgroup.Load().Thaw(); err != nil { // as the runtime's resume does
		t.Fatal(err)
	}
	if err := c.Resume(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.wait(c, "e")
}

// A container that something else has frozen, as runc's pause does, dies of SIGKILL all the
// same, also one that was never started.
func TestKillOfAContainerFrozenByOthers(t *testing.T) {
	for name, started := range map[string]bool{"running": true, "created": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.create("a", "sleep", fakeoci.Plan{})
			if started {
				if _, err := c.Start(r.ctx(), ""); err != nil {
					t.Fatal(err)
				}
			}
			r.freeze(c)
			if started {
				r.kill(c, "")
				r.wait(c, "")
			}
			if d, err := c.Delete(r.ctx(), ""); err != nil || d.Exit.Status != 137 {
				t.Errorf("delete: %+v, %v", d, err)
			}
		})
	}
}

// A container that was thawed behind the shim's back can be resumed.
func TestResumeOfAThawedContainer(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"resume": {Fail: &fakeoci.Fail{Message: "container not paused"}},
	}})
	if err := c.Pause(r.ctx()); err != nil {
		t.Fatal(err)
	}
	r.freeze(c)
	if err := c.Resume(r.ctx()); err == nil {
		t.Error("a frozen container was resumed though the runtime did not")
	}
	if err := c.cgroup.Load().Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := c.Resume(r.ctx()); err != nil {
		t.Error(err)
	}
	if st, _ := c.Status(""); st.State != Running {
		t.Errorf("state %v", st.State)
	}
}

// A cgroup that stayed frozen when its container exited is thawed before the
// runtime deletes it: runc takes it for paused, and refuses.
func TestDeleteOfAFrozenCgroup(t *testing.T) {
	r := newRig(t)
	gate := r.fifo("gate")
	c := r.run("a", "exit 3", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"delete": {Before: gate}}})
	r.wait(c, "")
	r.freeze(c)
	deleted := make(chan error, 1)
	cg := c.cgroup.Load()
	go func() {
		_, err := c.Delete(r.ctx(), "")
		deleted <- err
	}()
	for fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), "delete") == 0 {
		runtime.Gosched()
	}
	if frozen, err := cg.Frozen(); err != nil || frozen {
		t.Errorf("frozen when the runtime deletes it: %t, %v", frozen, err)
	}
	r.release(gate)
	if err := <-deleted; err != nil {
		t.Error(err)
	}
}

// An init that exits while it is being paused leaves no frozen cgroup.
func TestExitDuringPause(t *testing.T) {
	r := newRig(t)
	reached, gate := r.fifo("reached"), r.fifo("gate")
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"pause": {Reached: reached, Before: gate}}})
	paused := make(chan error, 1)
	go func() { paused <- c.Pause(r.ctx()) }()
	r.reached(reached)
	r.kill(c, "")
	r.wait(c, "")
	r.freeze(c)
	r.release(gate)
	if err := <-paused; err == nil {
		t.Error("a dead container was paused")
	}
	if _, err := c.Delete(r.ctx(), ""); err != nil {
		t.Error(err)
	}
	r.expect(c, "create", "start", "exit=137", "delete")
}
