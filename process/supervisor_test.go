// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// begetter starts a child, writes its pid to stdout and ends; the child ends
// with the given code once its stdin does.
func begetter(arg map[string]string) error {
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "read x; exit " + arg["code"]}, &syscall.ProcAttr{
		Files: []uintptr{0, 2, 2},
		Sys:   &syscall.SysProcAttr{Setsid: arg["session"] == "own"},
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(os.Stdout, strconv.Itoa(pid))
	return err
}

func newSupervisor(t *testing.T) *Supervisor {
	s := NewSupervisor()
	t.Cleanup(s.Close)
	return s
}

func run(t *testing.T, s *Supervisor, script string) *Process {
	t.Helper()
	p, err := s.Start(&Command{Path: "/bin/sh", Args: []string{"-c", script}, DieWithParent: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// beget returns the pid of a process whose parent has ended, and what ends it.
func beget(t *testing.T, s *Supervisor, code int) (pid int, end io.Closer) {
	t.Helper()
	return begetIn(t, s, code, "ours")
}

// begetIn says which session it is in: "ours", or its "own", as of what comes from a container.
func begetIn(t *testing.T, s *Supervisor, code int, session string) (pid int, end io.Closer) {
	t.Helper()
	stdinR, stdinW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdoutR, stdoutW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Start(&Command{
		Path: self(t), Args: []string{"program", "begetter", "code", strconv.Itoa(code), "session", session},
		Files: []*os.File{stdinR, stdoutW, os.Stderr},
	})
	stdinR.Close()
	stdoutW.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(stdoutR)
	stdoutR.Close()
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if pid, err = strconv.Atoi(strings.TrimSpace(string(out))); err != nil {
		t.Fatalf("begetter: %v, status %d", err, p.Exit().Status)
	}
	return pid, stdinW
}

// awaitZombie returns once a process has ended, reaped or not.
func awaitZombie(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

func exists(pid int) bool { return unix.Kill(pid, 0) == nil }

func TestExitStatus(t *testing.T) {
	s := newSupervisor(t)
	for script, want := range map[string]int{
		"exit 0": 0, "exit 7": 7, "exit 255": 255,
		"kill -TERM $$": 143, "kill -KILL $$": 137,
	} {
		p := run(t, s, script)
		<-p.Done()
		if e := p.Exit(); e.Status != want || !e.Known || e.At.IsZero() {
			t.Errorf("%s: %+v, want status %d", script, e, want)
		}
		if exists(p.Pid()) {
			t.Errorf("%s: the process was not reaped", script)
		}
	}
}

func TestManyExitsAreAttributed(t *testing.T) {
	s := newSupervisor(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			p, err := s.Start(&Command{Path: "/bin/sh", Args: []string{"-c", "exit " + strconv.Itoa(i)}})
			if err != nil {
				t.Error(err)
				return
			}
			<-p.Done()
			if got := p.Exit().Status; got != i {
				t.Errorf("exit %d was reported as %d", i, got)
			}
		})
	}
	wg.Wait()
}

func TestSignal(t *testing.T) {
	s := newSupervisor(t)
	p := run(t, s, "exec sleep infinity")
	if got := p.Exit(); got != (Exit{}) {
		t.Errorf("exit of a live process: %+v", got)
	}
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got := p.Exit().Status; got != 143 {
		t.Errorf("status %d", got)
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("signal after exit: %v", err)
	}
}

// A container's init may be dead, and reaped, before it can be adopted. The
// hold keeps how it ended.
func TestHoldKeepsExitForAdoption(t *testing.T) {
	s := newSupervisor(t)
	if err := s.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	hold := s.Hold()
	defer hold.Release()
	pid, end := beget(t, s, 42)
	end.Close()
	awaitReaped(t, pid) // it does not wait for the hold to end
	p, err := hold.Adopt(pid)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if e := p.Exit(); e.Status != 42 || !e.Known {
		t.Errorf("exit %+v, want 42", e)
	}
	hold.Release()
	if len(s.reaped) != 0 {
		t.Errorf("exits are kept after the hold: %v", s.reaped)
	}
}

// Code that waits for its own children gets them.
func TestSpareKeepsZombies(t *testing.T) {
	s := newSupervisor(t)
	if err := s.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	spare := s.Spare()
	pid, end := beget(t, s, 7)
	end.Close()
	awaitZombie(t, pid)
	for s.orphans.sweep() {
	}
	info, err := waitid(unix.P_PID, pid, unix.WEXITED)
	if err != nil || info.status != 7 {
		t.Errorf("status %d, %v", info.status, err)
	}
	spare.Release()
}

func TestAdoptLive(t *testing.T) {
	s := newSupervisor(t)
	if err := s.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	hold := s.Hold()
	pid, end := beget(t, s, 9)
	p, err := hold.Adopt(pid)
	if err != nil {
		t.Fatal(err)
	}
	hold.Release()
	end.Close()
	<-p.Done()
	if e := p.Exit(); e.Status != 9 || !e.Known {
		t.Errorf("exit %+v, want 9", e)
	}
}

func TestAdoptGone(t *testing.T) {
	s := newSupervisor(t)
	p := run(t, s, "exit 3")
	<-p.Done()
	hold := s.Hold()
	defer hold.Release()
	gone, err := hold.Adopt(p.Pid())
	if err != nil {
		t.Fatal(err)
	}
	<-gone.Done()
	if e := gone.Exit(); e.Known || e.Status != 255 {
		t.Errorf("exit %+v, want an unknown one", e)
	}
}

// Not a child: the kernel tells that it is over, but not how.
func TestAdoptStranger(t *testing.T) {
	stranger := newSupervisor(t)
	s := newSupervisor(t)
	p := run(t, stranger, "exec sleep infinity")
	hold := s.Hold()
	defer hold.Release()
	twin, err := hold.Adopt(p.Pid())
	if err != nil {
		t.Fatal(err)
	}
	p.Signal(unix.SIGKILL)
	<-p.Done()
	<-twin.Done() // whichever of the two the kernel gave the status to
}

func TestOrphansAreReaped(t *testing.T) {
	s := newSupervisor(t)
	if err := s.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	pid, end := beget(t, s, 1)
	end.Close()
	awaitReaped(t, pid)
}

// An orphan before an owned process in the kernel's list, and behind one.
func TestOrphansAmongOwned(t *testing.T) {
	s := newSupervisor(t)
	if err := s.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			pid, end := beget(t, s, i)
			end.Close()
			p := run(t, s, "exit "+strconv.Itoa(i))
			<-p.Done()
			if got := p.Exit(); got.Status != i || !got.Known {
				t.Errorf("exit %d was reported as %+v", i, got)
			}
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
				unix.Close(fd)
			}
		})
	}
	wg.Wait()
	for s.orphans.sweep() {
	}
	if info, err := waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT); err == nil && info.pid != 0 {
		t.Errorf("zombie %d is left", info.pid)
	}
}

// The forking thread is never the process's first, which does not end before it.
func TestForkerLeavesTheFirstThread(t *testing.T) {
	for range 50 { // most begin elsewhere anyway
		f := newForker()
		var tid int
		f.do(func() { tid = unix.Gettid() })
		f.close()
		if tid == unix.Getpid() {
			t.Fatal("the first thread forks")
		}
	}
}

func TestCloseLetsGo(t *testing.T) {
	s := NewSupervisor()
	p := run(t, s, "exec sleep infinity")
	fd, err := unix.PidfdOpen(p.Pid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s.Close()
	select {
	case <-p.Done():
		t.Error("Done was closed though nobody knows how the process ended")
	default:
	}
	if _, err := s.Start(&Command{Path: "/bin/true"}); err == nil {
		t.Error("a closed supervisor started a program")
	}
	// DieWithParent: the forking thread ended with Close.
	if _, err := waitid(unix.P_PIDFD, fd, unix.WEXITED); err != nil {
		t.Error(err)
	}
}

func TestNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: namespaces are made by root")
	}
	s := newSupervisor(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := s.Start(&Command{
		Path: "/bin/sh", Args: []string{"-c", "echo $$"},
		Files: []*os.File{nil, w, os.Stderr}, Namespaces: unix.CLONE_NEWPID,
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got := strings.TrimSpace(string(out)); got != "1" || p.Pid() == 1 {
		t.Errorf("in a PID namespace of its own it is process %s, and %d here", got, p.Pid())
	}
}

func TestStartErrors(t *testing.T) {
	s := newSupervisor(t)
	if _, err := s.Start(&Command{Path: "/nonexistent/program"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err %v", err)
	}
}

func TestEnvironmentIsNotInherited(t *testing.T) {
	t.Setenv("BERTH_SECRET", "x")
	s := newSupervisor(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := s.Start(&Command{
		Path: "/bin/sh", Args: []string{"-c", "env; pwd"}, Env: []string{"PATH=/bin:/usr/bin"},
		Files: []*os.File{nil, w, w},
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(r)
	<-p.Done()
	if s := string(out); strings.Contains(s, "BERTH") || !strings.HasSuffix(s, "\n/\n") {
		t.Errorf("the program saw %q", s)
	}
}
