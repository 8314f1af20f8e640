// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"os"
	"testing"

	"berth/test/e2e/conformance/daemon"
	"berth/test/fakeoci"
)

// The init is dead before the runtime's create returns: its exit code is still
// the one that is reported, once.
func TestInitDeadBeforeCreateReturns(t *testing.T) {
	h := newFakeHost(t)
	code := 9
	c := h.fake("stillborn", "", verbs("create", fakeoci.Verb{InitExit: &code}), "sleep")
	if err := c.create(daemon.Streams{}); err != nil {
		t.Fatalf("create: %v", err)
	}
	if status, err := c.wait(""); err != nil || status != 9 {
		t.Errorf("wait: status %d, error %v; want 9", status, err)
	}
	if err := c.start(); err == nil {
		t.Error("start of a dead init succeeded")
	}
	events, err := h.Events.Await(h.ctx, 1, exits)
	if err != nil || len(events) != 1 || events[0].ExitStatus != 9 || events[0].Pid != c.pid {
		t.Errorf("exits %+v, error %v; want one of pid %d with status 9", events, err, c.pid)
	}
	if resp, err := c.delete(""); err != nil || resp.ExitStatus != 9 {
		t.Errorf("delete: %v, error %v", resp, err)
	}
	c.leave()
}

// An exec is over before the runtime's exec returns, in three ways of being a
// child of nobody that the shim knows.
func TestExecDeadBeforeRuntimeReturns(t *testing.T) {
	for name, verb := range map[string]fakeoci.Verb{
		"zombie":     {UntilDead: true},
		"reparented": {DoubleFork: true, UntilDead: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t)
			c := h.fake("init", "", verbs("exec:early", verb), "sleep")
			c.up()
			pid, err := c.execFake("early", "exit", "7")
			if err != nil {
				t.Fatalf("exec: %v", err)
			}
			checkExitedExec(c, "early", pid, 7)
			c.remove()
		})
	}
}

// As above, but the runtime takes its time after the exec's death, so that the
// shim could reap the exec as an orphan before it knows it.
func TestExecDeadWhileRuntimeLingers(t *testing.T) {
	h := newFakeHost(t)
	verb := fakeoci.Verb{DoubleFork: true, UntilDead: true, After: h.hostGate("after")}
	c := h.fake("init", "", verbs("exec:early", verb), "sleep")
	c.up()
	type result struct {
		pid uint32
		err error
	}
	done := make(chan result, 1)
	go func() {
		pid, err := c.execFake("early", "exit", "7")
		done <- result{pid, err}
	}()
	h.open("after", os.O_WRONLY) // the runtime has seen the exec die
	r := <-done
	if r.err != nil {
		t.Fatalf("exec: %v", r.err)
	}
	checkExitedExec(c, "early", r.pid, 7)
	c.remove()
}

// execFake runs a script of the fake runtime as an exec.
func (c *container) execFake(id string, script ...string) (uint32, error) {
	return c.execArgs(id, daemon.Streams{}, append([]string{"fake"}, script...))
}

func checkExitedExec(c *container, id string, pid, status uint32) {
	c.t.Helper()
	if got, err := c.wait(id); err != nil || got != status {
		c.t.Errorf("wait: status %d, error %v; want %d", got, err, status)
	}
	of := func(e daemon.Event) bool { return exits(e) && e.ExecID == id }
	if _, err := c.Events.Await(c.ctx, 1, of); err != nil {
		c.t.Error(err)
	}
	checkExec(c.host, c.bundle.ID, id, pid, status)
	if resp, err := c.delete(id); err != nil || resp.ExitStatus != status {
		c.t.Errorf("delete: %v, error %v", resp, err)
	}
}
