// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/test/fakeoci"
)

func TestLifecycle(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 7", fakeoci.Plan{})
	if exit := r.wait(c, ""); exit.Status != 7 || !exit.Known {
		t.Errorf("exit %+v", exit)
	}
	if st, _ := c.Status(""); st.State != Stopped || st.Exit.Status != 7 {
		t.Errorf("status %+v", st)
	}
	d, err := c.Delete(r.ctx(), "")
	if err != nil || d.Exit.Status != 7 || d.Pid == 0 {
		t.Errorf("delete: %+v, %v", d, err)
	}
	r.expect(c, "create", "start", "exit=7", "delete")
	if _, err := r.pod.Container("a"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("container after delete: %v", err)
	}
	rec, err := readRecord(c.Bundle())
	if err != nil || !rec.Clean || rec.Exit.Status != 7 {
		t.Errorf("record %+v, %v", rec, err)
	}
}

// The runtime's create returns only when the init is a zombie already.
func TestInitDeadBeforeCreateReturns(t *testing.T) {
	r := newRig(t)
	code := 3
	c := r.create("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"create": {InitExit: &code, UntilDead: true},
	}})
	if exit := r.wait(c, ""); exit.Status != 3 || !exit.Known {
		t.Errorf("exit %+v, want the true status", exit)
	}
	if _, err := c.Start(r.ctx(), ""); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start after exit: %v", err)
	}
	r.remove(c)
	r.expect(c, "create", "exit=3", "delete")
}

// The init exits while the runtime's start has not returned yet: its start is
// told first.
func TestExitWaitsForStart(t *testing.T) {
	r := newRig(t)
	gate := r.fifo("gate")
	c := r.create("a", "exit 5", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"start": {After: gate}}})
	started := make(chan error, 1)
	go func() {
		_, err := c.Start(r.ctx(), "")
		started <- err
	}()
	<-c.init.os.Done() // dead, and the runtime still has not returned
	r.expect(c, "create")
	if st, err := c.Status(""); err != nil || st.State != Created {
		t.Errorf("status during start: %+v, %v", st, err)
	}
	r.release(gate)
	if err := <-started; err != nil {
		t.Error(err)
	}
	r.wait(c, "")
	r.expect(c, "create", "start", "exit=5")
}

// An exec exits before the runtime's exec returns.
func TestExecExitsBeforeRuntimeReturns(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"exec": {UntilDead: true}}})
	r.exec(c, "e", "exit 9")
	if exit := r.wait(c, "e"); exit.Status != 9 || !exit.Known {
		t.Errorf("exit %+v", exit)
	}
	r.expect(c, "create", "start", "exec-added:e", "exec-started:e", "exit:e=9")
}

func TestConcurrentExecsAreAttributed(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	const n = 64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id := fmt.Sprintf("e%d", i)
			r.exec(c, id, fmt.Sprintf("exit %d", i))
			if exit := r.wait(c, id); exit.Status != i || !exit.Known {
				t.Errorf("%s: exit %+v", id, exit)
			}
			if _, err := c.Delete(r.ctx(), id); err != nil {
				t.Errorf("delete %s: %v", id, err)
			}
		})
	}
	wg.Wait()
	story := r.story(c)
	if len(story) != 2+3*n {
		t.Errorf("%d events, want %d", len(story), 2+3*n)
	}
	for i := range n {
		var own []string
		for _, w := range story {
			if name, _, _ := strings.Cut(w, "="); strings.HasSuffix(name, fmt.Sprintf(":e%d", i)) {
				own = append(own, w)
			}
		}
		if want := fmt.Sprintf("[exec-added:e%d exec-started:e%d exit:e%d=%d]", i, i, i, i); fmt.Sprint(own) != want {
			t.Errorf("told %v, want %s", own, want)
		}
	}
}

// Every exec's exit precedes its init's, and none outlives it: without a PID
// namespace it is the cgroup that ends them.
func TestExecExitsBeforeInit(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	for i := range 8 {
		r.exec(c, fmt.Sprintf("e%d", i), "ignore ; sleep")
	}
	r.kill(c, "")
	r.wait(c, "")
	story := r.story(c)
	if last := story[len(story)-1]; last != "exit=137" {
		t.Errorf("the init's exit is not last: %v", story)
	}
	for i := range 8 {
		if !strings.Contains(strings.Join(story, " "), fmt.Sprintf("exit:e%d=137", i)) {
			t.Errorf("no exit of e%d: %v", i, story)
		}
	}
}

// An exec is being started while its init dies: its start and its exit are told
// before the init's exit.
func TestExecStartedWhileInitDies(t *testing.T) {
	r := newRig(t)
	runs, gate := r.fifo("runs"), r.fifo("gate")
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"exec:slow": {After: gate}}})
	r.addExec(c, "slow", "touch "+runs+" ; sleep")
	started := make(chan error, 1)
	go func() {
		_, err := c.Start(r.ctx(), "slow")
		started <- err
	}()
	r.reached(runs)
	r.addExec(c, "late", "sleep")
	r.kill(c, "")
	<-c.init.os.Done()
	r.release(gate)
	if err := <-started; err != nil {
		t.Error(err)
	}
	r.wait(c, "")
	if _, err := c.Start(r.ctx(), "late"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("an exec was started after its init's exit: %v", err)
	}
	r.expect(c, "create", "start", "exec-added:slow", "exec-added:late", "exec-started:slow", "exit:slow=137", "exit=137")
}

// What shares no PID namespace with the init is killed with its cgroup, and
// orphans are reaped.
func TestLeftoversAreKilled(t *testing.T) {
	r := newRig(t)
	alive := r.fifo("alive")
	c := r.run("a", "orphan ignore ; touch "+alive+" ; sleep endfork ; sleep", fakeoci.Plan{})
	r.reached(alive)
	pids, err := c.Pids()
	if err != nil || len(pids) < 2 {
		t.Fatalf("pids %v, %v", pids, err)
	}
	r.kill(c, "")
	r.wait(c, "")
	for _, p := range pids {
		if state := procState(p.Pid); state != "" && state != "Z" {
			t.Errorf("process %d is in state %s after the exit", p.Pid, state)
		}
	}
}

// procState is the letter of proc_pid_stat(5), or empty without the process.
func procState(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return rest[:1]
}

// A start that hangs in the runtime does not keep an exit for ever, nor does
// it keep State, Wait, Kill and Pids from being answered, nor another
// container from anything.
func TestHungRuntimeHoldsNobodyUp(t *testing.T) {
	r := newRig(t)
	r.pod.grace.start = 200 * time.Millisecond
	reached := r.fifo("reached")
	hung := r.create("hung", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"start": {Reached: reached, Hang: "before"},
	}})
	go hung.Start(r.ctx(), "")
	r.reached(reached)

	other := r.run("other", "exit 4", fakeoci.Plan{})
	if exit := r.wait(other, ""); exit.Status != 4 {
		t.Errorf("exit %+v", exit)
	}
	if _, err := other.Delete(r.ctx(), ""); err != nil {
		t.Error(err)
	}
	if st, err := hung.Status(""); err != nil || st.State != Created {
		t.Errorf("status %+v, %v", st, err)
	}
	if pids, err := hung.Pids(); err != nil || len(pids) != 1 {
		t.Errorf("pids %v, %v", pids, err)
	}
	if _, _, err := hung.Stats(nil); err != nil {
		t.Errorf("stats: %v", err)
	}
	r.kill(hung, "") // no gate, no runtime
	if exit := r.wait(hung, ""); exit.Status != 137 {
		t.Errorf("exit %+v", exit)
	}
	r.expect(hung, "create", "exit=137")
}

// Kill never asks the runtime.
func TestKillCallsNoRuntime(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"kill": {Hang: "before"}}})
	if err := c.Kill(r.ctx(), "", unix.SIGTERM, true); err != nil {
		t.Fatal(err)
	}
	if exit := r.wait(c, ""); exit.Status != 143 {
		t.Errorf("exit %+v", exit)
	}
	if n := fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), "kill"); n != 0 {
		t.Errorf("the runtime was called %d times", n)
	}
}
