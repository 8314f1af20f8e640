// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"slices"
	"testing"

	"berth/test/fakeoci"
)

// Pids says which exec a process is of, and nothing of what is no exec's own.
func TestPidsNameExecs(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.exec(c, "e1", "sleep")
	r.exec(c, "e2", "sleep")
	pids, err := c.Pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Pid{
		{Pid: c.init.os.Pid()},
		{Pid: c.execs["e1"].os.Pid(), Exec: "e1"},
		{Pid: c.execs["e2"].os.Pid(), Exec: "e2"},
	} {
		if !slices.Contains(pids, want) {
			t.Errorf("pids %+v, without %+v", pids, want)
		}
	}
}
