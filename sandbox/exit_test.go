// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/test/fakeoci"
)

// until returns once a fact has come about that nothing tells of.
func (r *rig) until(what string, fact func() bool) {
	r.Helper()
	for end := time.Now().Add(limit); !fact(); runtime.Gosched() {
		if time.Now().After(end) {
			r.Fatalf("it never came about that %s", what)
		}
	}
}

// immortal makes a process one that SIGKILL does not end, as a process is that
// hangs in the kernel, until the returned function is called. On cgroup v1 a
// frozen process is one (cgroup-v1/freezer-subsystem.rst).
func (r *rig) immortal(pid int) (mortal func()) {
	r.Helper()
	const hierarchy = "/sys/fs/cgroup/freezer"
	if _, err := os.Stat(filepath.Join(hierarchy, "cgroup.procs")); err != nil {
		r.Skipf("no freezer of cgroup v1, whose frozen processes survive SIGKILL: %v", err)
	}
	dir := filepath.Join(hierarchy, r.cgroup(fmt.Sprintf("frozen-%d", pid)))
	write := func(file, text string) {
		r.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0); err != nil {
			r.Fatal(err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.Fatal(err)
	}
	write("cgroup.procs", fmt.Sprint(pid))
	write("freezer.state", "FROZEN")
	r.until("the process is frozen", func() bool {
		state, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return err != nil || string(state) == "FROZEN\n"
	})
	thawed := false
	mortal = func() {
		if thawed {
			return
		}
		thawed = true
		write("freezer.state", "THAWED")
		r.until("the process has left its cgroup", func() bool { return !errors.Is(os.Remove(dir), unix.EBUSY) })
	}
	r.Cleanup(mortal)
	return mortal
}

// leave takes a process out of the container's cgroups.
func (r *rig) leave(pid int) {
	r.Helper()
	roots, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil || len(roots) == 0 {
		r.Skip("no cgroup v1 hierarchies: a process leaves its cgroup there, one after the other")
	}
	for _, procs := range roots {
		if err := os.WriteFile(procs, []byte(fmt.Sprint(pid)), 0); err != nil {
			r.Fatal(err)
		}
	}
}

// dying says whether SIGKILL was sent to a process that does not die of it.
func dying(pid int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		name, set, _ := strings.Cut(line, ":")
		pending, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
		if (name == "SigPnd" || name == "ShdPnd") && err == nil && pending&(1<<(unix.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}

// An exec that hangs in the kernel is declared killed: its exit comes before
// the init's, which it does not withhold, and is told once.
func TestExitOfAnImmortalExec(t *testing.T) {
	r := newRig(t)
	r.pod.grace.kill = time.Millisecond
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.exec(c, "e", "sleep")
	e := c.execs["e"]
	mortal := r.immortal(e.os.Pid())
	r.kill(c, "")
	if exit := r.wait(c, ""); exit.Status != 137 {
		t.Errorf("exit of the init: %+v", exit)
	}
	if exit := r.wait(c, "e"); exit.Status != 137 || exit.Known {
		t.Errorf("exit of the exec: %+v", exit)
	}
	if !dying(e.os.Pid()) {
		t.Error("SIGKILL was not sent to the exec")
	}
	mortal()
	<-e.os.Done()
	r.remove(c)
	r.pod.work.Wait()
	r.expect(c, "create", "start", "exec-added:e", "exec-started:e", "exit:e=137", "exit=137", "delete")
}

// An exec out of reach of the container's cgroup is killed all the same, and
// its true status is waited for.
func TestExitOfAnExecInAnotherCgroup(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.exec(c, "e", "ignore ; sleep")
	r.leave(c.execs["e"].os.Pid())
	mortal := r.immortal(c.execs["e"].os.Pid())
	r.kill(c, "")
	r.until("the exec is being killed", func() bool { return dying(c.execs["e"].os.Pid()) })
	r.expect(c, "create", "start", "exec-added:e", "exec-started:e")
	mortal()
	r.wait(c, "")
	if exit := r.wait(c, "e"); exit.Status != 137 || !exit.Known {
		t.Errorf("exit of the exec: %+v, want a known one", exit)
	}
	r.expect(c, "create", "start", "exec-added:e", "exec-started:e", "exit:e=137", "exit=137")
}

// Several execs are being started while the init dies: its exit waits for all
// of them, and from its death on nothing is started or added.
func TestExitWaitsForAllStarts(t *testing.T) {
	r := newRig(t)
	ids := []string{"s1", "s2"}
	verbs := make(map[string]fakeoci.Verb)
	for _, id := range ids {
		verbs["exec:"+id] = fakeoci.Verb{Worked: r.fifo(id), After: r.fifo(id + "-gate")}
	}
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: verbs})
	started := make(map[string]chan error)
	for _, id := range ids {
		r.addExec(c, id, "sleep")
		done := make(chan error, 1)
		started[id] = done
		go func() {
			_, err := c.Start(r.ctx(), id)
			done <- err
		}()
		r.reached(filepath.Join(r.dir, id))
	}
	r.addExec(c, "late", "sleep")
	r.kill(c, "")
	r.until("the exit waits for starts", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.idle != nil
	})
	if _, err := c.Start(r.ctx(), "late"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start of an exec of a dead init: %v", err)
	}
	if err := c.Exec(ExecRequest{ID: "later"}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("an exec was added to a dead init: %v", err)
	}
	if n := fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), "exec:late"); n != 0 {
		t.Error("the runtime was asked for an exec of a dead init")
	}
	for i, id := range ids {
		r.release(filepath.Join(r.dir, id+"-gate"))
		if err := <-started[id]; err != nil {
			t.Errorf("start of %s: %v", id, err)
		}
		c.mu.Lock()
		waits := c.idle != nil
		c.mu.Unlock()
		if i == 0 && !waits {
			t.Error("the exit does not wait for the second start")
		}
	}
	r.wait(c, "")
	if story := strings.Join(r.story(c), " "); !strings.HasSuffix(story, " exit=137") ||
		!strings.Contains(story, "exec-started:s1") || !strings.Contains(story, "exec-started:s2") {
		t.Errorf("told %s", story)
	}
}

// A created container whose init has died is not started any more, though its
// exit was not told yet.
func TestStartOfADeadInit(t *testing.T) {
	r := newRig(t)
	c := r.create("a", "sleep", fakeoci.Plan{})
	other, err := r.sup.Start(&process.Command{Path: "/bin/sleep", Args: []string{"infinity"}, DieWithParent: true})
	if err != nil {
		t.Fatal(err)
	}
	procs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", r.cgroup("a"), "cgroup.procs"))
	for _, file := range procs {
		if err := os.WriteFile(file, []byte(fmt.Sprint(other.Pid())), 0); err != nil {
			t.Fatal(err)
		}
	}
	mortal := r.immortal(other.Pid()) // keeps the exit waiting for its cgroup
	r.kill(c, "")
	r.until("the cgroup is being killed", func() bool { return dying(other.Pid()) })
	if _, err := c.Start(r.ctx(), ""); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start: %v", err)
	}
	if n := fakeoci.Begun(fakeoci.Calls(t, c.Bundle()), "start"); n != 0 {
		t.Error("the runtime was asked to start a dead init")
	}
	r.expect(c, "create")
	mortal()
	<-other.Done()
	r.wait(c, "")
	r.expect(c, "create", "exit=137")
}

// An exec whose console never comes is undone once its init has died.
func TestExecThatHangsIsUndone(t *testing.T) {
	r := newRig(t)
	r.pod.grace.start = time.Millisecond
	alive := r.fifo("alive")
	c := r.run("a", "sleep", fakeoci.Plan{})
	data := `{"args":["fake","touch","` + alive + `",";","ignore",";","sleep"]}` // no terminal
	if err := c.Exec(ExecRequest{ID: "e", Process: []byte(data), Stdio: process.Stdio{Terminal: true}}); err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() {
		_, err := c.Start(r.ctx(), "e")
		started <- err
	}()
	r.reached(alive)
	var pid int
	r.until("the runtime's exec has returned", func() bool {
		calls := fakeoci.Calls(t, c.Bundle())
		pid = calls[len(calls)-1].Made
		return pid != 0
	})
	r.leave(pid) // what the init's end does not kill, the undoing does
	r.kill(c, "")
	if err := <-started; err == nil {
		t.Error("the exec was started")
	}
	if state := procState(pid); state != "" {
		t.Errorf("the exec's process is in state %s", state)
	}
	r.wait(c, "")
	r.wait(c, "e")
	r.expect(c, "create", "start", "exec-added:e", "exit=137")
}

// SIGKILL ends what the freezer holds.
func TestKillOfAFrozenContainer(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	if err := c.Pause(r.ctx()); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join("/sys/fs/cgroup/freezer", r.cgroup("a"), "freezer.state")
	if _, err := os.Stat(state); err != nil {
		t.Skipf("no freezer of cgroup v1, whose frozen processes survive SIGKILL: %v", err)
	}
	if err := os.WriteFile(state, []byte("FROZEN"), 0); err != nil {
		t.Fatal(err)
	}
	r.until("the container is frozen", func() bool {
		text, err := os.ReadFile(state)
		return err != nil || string(text) == "FROZEN\n"
	})
	r.kill(c, "")
	r.wait(c, "")
	r.expect(c, "create", "start", "paused", "exit=137")
}
