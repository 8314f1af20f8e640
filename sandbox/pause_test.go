// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"path/filepath"
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
