// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supervisor owns the reaping of every process that it started or adopted.
// There must be one in a program, and no other code there may wait for
// children that are not its own.
type Supervisor struct {
	watchers sync.WaitGroup
	orphans  *orphanReaper // nil until ReapOrphans
	forks    forker

	mu     sync.Mutex
	owned  map[int]*Process // by pid; an entry leaves once its process is reaped
	holds  int              // open Holds for adoption
	reaped map[int]Exit     // orphans reaped under a Hold for adoption, by pid
	closed bool

	begun  uint64              // how many Spares there were
	spares map[uint64]struct{} // those that are open, by their number
	spared map[int]sighting    // zombies that were not reaped for them, by pid
}

// maxReaped bounds the exits that are kept for an adoption. A container whose
// orphans re-parent to us may make any number of them; when the table is full
// the others wait as zombies until the hold ends.
const maxReaped = 4096

var errClosed = errors.New("the supervisor is closed")

// NewSupervisor returns a supervisor without processes.
func NewSupervisor() *Supervisor {
	return &Supervisor{owned: make(map[int]*Process), spares: make(map[uint64]struct{}), forks: newForker()}
}

// Command is a program to be started.
type Command struct {
	// Path is the program's absolute path.
	Path string
	// Args are its arguments, without argv[0].
	Args []string
	// Env is the whole environment; nothing is inherited.
	Env []string
	// Dir is the working directory; empty means "/".
	Dir string
	// Files become descriptors 0, 1, 2, ...; nil entries and missing ones
	// among the first three are /dev/null. The caller keeps ownership. They
	// are put in blocking mode, as programs expect of what they inherit.
	Files []*os.File
	// DieWithParent has the kernel send SIGKILL when this process dies
	// (PR_SET_PDEATHSIG), or when the supervisor is closed.
	DieWithParent bool
	// Namespaces are those that the program gets of its own (CLONE_NEW*, clone(2)).
	Namespaces uintptr
	// OwnGroup makes the program the leader of a process group of its own.
	OwnGroup bool
}

// Start runs a program. The returned process is held by the pidfd that
// clone(2) gave, so there is no moment at which its pid alone names it.
func (s *Supervisor) Start(c *Command) (*Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }()

	pidfd := -1
	attr := &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Sys: &syscall.SysProcAttr{
		PidFD: &pidfd, Setpgid: c.OwnGroup, Cloneflags: c.Namespaces,
	}}
	if attr.Dir == "" {
		attr.Dir = "/"
	}
	if attr.Env == nil {
		attr.Env = []string{} // nil would inherit ours
	}
	if c.DieWithParent {
		attr.Sys.Pdeathsig = syscall.SIGKILL
	}
	for i := range max(3, len(c.Files)) {
		f := null
		if i < len(c.Files) && c.Files[i] != nil {
			f = c.Files[i]
		}
		fd := f.Fd()
		if err := syscall.SetNonblock(int(fd), false); err != nil {
			return nil, fmt.Errorf("make descriptor %d blocking: %w", i, err)
		}
		attr.Files = append(attr.Files, fd)
	}

	// A child that dies at once must not be taken for an orphan before it is
	// in the table.
	defer s.Spare().Release()
	var pid int
	if !s.forks.do(func() { pid, err = syscall.ForkExec(c.Path, append([]string{c.Path}, c.Args...), attr) }) {
		return nil, errClosed
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	if pidfd < 0 {
		return nil, errors.New("start " + c.Path + ": the kernel gave no pidfd (Linux 5.4 or later is needed)")
	}
	return s.own(pid, pidfd)
}

// own puts a process in the table and starts its watcher. It takes pidfd over.
func (s *Supervisor) own(pid, pidfd int) (*Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ownLocked(pid, pidfd)
}

func (s *Supervisor) ownLocked(pid, pidfd int) (*Process, error) {
	fd, err := newPidfdFile(pidfd)
	if err != nil {
		return nil, err
	}
	if s.closed {
		_ = fd.Close()
		return nil, errClosed
	}
	p := &Process{pid: pid, fd: fd, done: make(chan struct{})}
	s.owned[pid] = p
	s.watchers.Add(1)
	go s.watch(p)
	return p, nil
}

// watch is the one place where an owned process becomes a reaped one.
func (s *Supervisor) watch(p *Process) {
	defer s.watchers.Done()
	reaped := p.watch()
	s.mu.Lock()
	if s.owned[p.pid] == p { // a reused pid may be another's by now
		delete(s.owned, p.pid)
	}
	s.mu.Unlock()
	_ = p.fd.Close()
	if reaped {
		close(p.done)
	}
}

// Hold keeps the exits of orphans while an adoption is under way.
type Hold struct {
	s     *Supervisor
	spare uint64 // its number; 0 for one for adoption
	once  sync.Once
}

// Hold must be taken before the program is started whose child will be
// adopted, and released once it was adopted or is no longer wanted. Orphans are
// reaped all the same, so that a program that takes long does not have another
// container's zombies pile up, but how they ended is kept for Adopt.
func (s *Supervisor) Hold() *Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds++
	return &Hold{s: s}
}

// Release ends the hold. It may be called more than once.
func (h *Hold) Release() {
	h.once.Do(func() {
		h.s.mu.Lock()
		if h.spare > 0 {
			h.s.endSpareLocked(h.spare)
		} else if h.s.holds--; h.s.holds == 0 {
			h.s.reaped = nil
		}
		orphans := h.s.orphans
		h.s.mu.Unlock()
		if orphans != nil {
			orphans.look()
		}
	})
}

// Adopt takes over a process that another program made, by its pid. The
// program must have exited, so that its children are ours; the hold must have
// been open since before it started, so that an exit was kept. A pid that is
// gone all the same gives a Process that is done and whose exit is not Known.
//
// A process of that number that is not our child, where an orphan of that
// number was reaped under the hold, is a stranger that got the number since.
func (h *Hold) Adopt(pid int) (*Process, error) {
	s := h.s
	s.mu.Lock() // so that no orphan is reaped until the process is in the table
	defer s.mu.Unlock()
	if exit, ok := s.reaped[pid]; ok && !isChild(pid) {
		return exited(pid, exit), nil
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return exited(pid, Exit{Status: unknownStatus, At: time.Now()}), nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pidfd of process %d: %w", pid, err)
	}
	return s.ownLocked(pid, fd)
}

// exited is a process that is over.
func exited(pid int, exit Exit) *Process {
	p := &Process{pid: pid, done: make(chan struct{}), exit: exit}
	close(p.done)
	return p
}

// isChild is true for a child of this process that has not been reaped: asking
// for the status of one that lives is no error (waitid(2)).
func isChild(pid int) bool {
	_, err := waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
	return err == nil
}

// Close lets go of every process, live ones included: their Done is never
// closed. It waits for all goroutines of the supervisor.
func (s *Supervisor) Close() {
	s.mu.Lock()
	s.closed = true
	orphans := s.orphans
	var live []*Process
	for _, p := range s.owned {
		live = append(live, p)
	}
	s.mu.Unlock()
	if orphans != nil {
		orphans.close()
	}
	for _, p := range live {
		_ = p.fd.Close()
	}
	s.watchers.Wait()
	s.forks.close()
}
