// SPDX-License-Identifier: Apache-2.0

package process

import (
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// awaitReaped returns once nobody has a process's status any more.
func awaitReaped(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); exists(pid); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("process %d was not reaped", pid)
		}
	}
}

func newReaper(t *testing.T) *Supervisor {
	t.Helper()
	s := newSupervisor(t)
	if err := s.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	return s
}

// The reaper wakes up by itself: when a child dies, and when the last hold is
// released; and then it reaps all.
func TestReaperWakes(t *testing.T) {
	s := newReaper(t)
	pid, end := beget(t, s, 1)
	end.Close()
	awaitReaped(t, pid)

	hold := s.Spare()
	var pids []int
	for range 3 {
		pid, end := beget(t, s, 1)
		end.Close()
		awaitZombie(t, pid)
		pids = append(pids, pid)
	}
	for end := time.Now().Add(patience); len(s.orphans.hint) > 0 && time.Now().Before(end); {
		runtime.Gosched() // until it has seen that there is a hold
	}
	hold.Release()
	for _, pid := range pids {
		awaitReaped(t, pid)
	}
}

// What died under a hold is looked for once that ends: no signal comes again.
func TestReleaseGivesAHint(t *testing.T) {
	s := newSupervisor(t)
	s.orphans = &orphanReaper{s: s, hint: make(chan os.Signal, 1), stop: make(chan struct{})} // does not run
	s.Hold().Release()
	if len(s.orphans.hint) != 1 {
		t.Error("the reaper has no hint")
	}
}

// A hold that is released twice ends no other one.
func TestReleaseTwice(t *testing.T) {
	s := newReaper(t)
	first, second := s.Hold(), s.Hold()
	defer second.Release()
	first.Release()
	first.Release()
	pid, end := beget(t, s, 42)
	end.Close()
	awaitReaped(t, pid)
	for s.orphans.sweep() {
	}
	p, err := second.Adopt(pid)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if e := p.Exit(); e.Status != 42 || !e.Known {
		t.Errorf("exit %+v, want 42", e)
	}
}

// A zombie that is owned hides those behind it, so its watcher is waited for,
// but not by Close.
func TestReaperWaitsForOwner(t *testing.T) {
	s := newReaper(t)
	hold := s.Spare()
	pid, end := beget(t, s, 1)
	end.Close()
	awaitZombie(t, pid)
	owner := &Process{pid: pid, done: make(chan struct{})}
	s.mu.Lock()
	s.owned[pid] = owner
	s.mu.Unlock()
	swept := make(chan bool, 1)
	go func() { swept <- s.orphans.sweep() }()
	close(owner.done)
	if !<-swept {
		t.Error("the reaper gave up at a zombie with an owner")
	}
	stuck := &Process{pid: pid, done: make(chan struct{})}
	s.mu.Lock()
	s.owned[pid] = stuck
	s.mu.Unlock()
	s.orphans.look()
	go func() { swept <- s.orphans.sweep() }()
	s.orphans.close()
	if <-swept {
		t.Error("a closed reaper goes on")
	}
	if _, err := waitid(unix.P_PID, pid, unix.WEXITED); err != nil {
		t.Errorf("the zombie was reaped though it had an owner: %v", err)
	}
	s.mu.Lock()
	delete(s.owned, pid)
	s.mu.Unlock()
	hold.Release()
}

func TestAdoptAfterClose(t *testing.T) {
	other := newSupervisor(t)
	p := run(t, other, "exec sleep infinity")
	s := NewSupervisor()
	hold := s.Hold()
	s.Close()
	if _, err := hold.Adopt(p.Pid()); err == nil {
		t.Error("a closed supervisor adopted a process")
	}
	p.Signal(unix.SIGKILL)
	<-p.Done()
}

// What a program inherits is what the command says: no environment, and
// descriptors as programs expect them.
func TestStartInheritsNothing(t *testing.T) {
	t.Setenv("BERTH_SECRET", "x")
	s := newSupervisor(t)
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	stdin := os.NewFile(uintptr(fds[0]), "stdin")
	defer stdin.Close()
	p, err := s.Start(&Command{
		Path: "/bin/sh", Args: []string{"-c", "/bin/grep flags /proc/self/fdinfo/0; exec /usr/bin/env"},
		Files: []*os.File{stdin, w, w},
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(out)
	<-p.Done()
	if strings.Contains(string(text), "BERTH_SECRET") {
		t.Errorf("the program inherited %q", text)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	flags, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(line, "flags:")), 8, 64)
	if err != nil || flags&syscall.O_NONBLOCK != 0 {
		t.Errorf("the flags of stdin: %q, %v", line, err)
	}
}

func TestShellStatus(t *testing.T) {
	for info, want := range map[waitInfo]int{
		{code: cldExited, status: 6}: 6, {code: cldKilled, status: 9}: 137, {code: cldDumped, status: 6}: 134,
	} {
		if got := info.shellStatus(); got != want {
			t.Errorf("%+v is reported as %d, want %d", info, got, want)
		}
	}
}

// sweepAll is what the reaper does at a hint.
func sweepAll(s *Supervisor) {
	s.orphans.reapForgotten()
	for s.orphans.sweep() {
	}
}

// A zombie that nobody waits for does not stay for as long as one Spare overlaps
// the next: it goes with those that were open when it was seen.
func TestSparesDoNotAddUp(t *testing.T) {
	s := newReaper(t)
	first, second := s.Spare(), s.Spare()
	pid, end := beget(t, s, 1)
	end.Close()
	awaitZombie(t, pid)
	sweepAll(s)
	third := s.Spare()
	defer third.Release()
	first.Release()
	sweepAll(s)
	if !exists(pid) {
		t.Fatal("it was reaped while a call that may wait for it was open")
	}
	second.Release()
	awaitReaped(t, pid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.spared) != 0 {
		t.Errorf("%v are still noted", s.spared)
	}
}

// Which process of a number was seen counts: another that has it by now is not
// reaped for it.
func TestSpareKnowsAReusedPid(t *testing.T) {
	s := newReaper(t)
	first := s.Spare()
	pid, end := beget(t, s, 7)
	end.Close()
	awaitZombie(t, pid)
	sweepAll(s)
	s.mu.Lock()
	seen := s.spared[pid]
	seen.started-- // of an earlier one
	s.spared[pid] = seen
	s.mu.Unlock()
	second := s.Spare()
	defer second.Release()
	first.Release()
	sweepAll(s)
	if info, err := waitid(unix.P_PID, pid, unix.WEXITED); err != nil || info.status != 7 {
		t.Errorf("status %d, %v", info.status, err)
	}
}

// A zombie that is spared hides none of a container behind it.
func TestSpareHidesNothing(t *testing.T) {
	s := newReaper(t)
	spare := s.Spare()
	defer spare.Release()
	pid, end := beget(t, s, 1)
	end.Close()
	awaitZombie(t, pid)
	behind, end := begetIn(t, s, 1, "own")
	end.Close()
	awaitReaped(t, behind)
	if !exists(pid) {
		t.Error("what is spared was reaped")
	}
}
