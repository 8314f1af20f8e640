// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// orphanReaper reaps the zombies that re-parent to this process and that
// nobody owns.
type orphanReaper struct {
	s       *Supervisor
	hint    chan os.Signal // SIGCHLD, or nil from look; capacity 1: hints coalesce
	stop    chan struct{}
	once    sync.Once
	stopped sync.WaitGroup
}

// ReapOrphans makes this process a child subreaper (PR_SET_CHILD_SUBREAPER,
// prctl(2)) and reaps zombies that nobody owns from now on. No other code of
// the program may then wait for children, os/exec included. It is called once.
func (s *Supervisor) ReapOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a child subreaper: %w", err)
	}
	r := &orphanReaper{s: s, hint: make(chan os.Signal, 1), stop: make(chan struct{})}
	signal.Notify(r.hint, unix.SIGCHLD)
	s.mu.Lock()
	s.orphans = r
	s.mu.Unlock()
	r.stopped.Add(1)
	go r.run()
	return nil
}

// look asks for a sweep without waiting for it.
func (r *orphanReaper) look() {
	select {
	case r.hint <- nil:
	default: // one is pending already
	}
}

func (r *orphanReaper) close() {
	r.once.Do(func() {
		signal.Stop(r.hint)
		close(r.stop)
	})
	r.stopped.Wait()
}

func (r *orphanReaper) run() {
	defer r.stopped.Done()
	for {
		select {
		case <-r.stop:
			return
		case <-r.hint:
		}
		r.reapForgotten()
		for r.sweep() {
		}
	}
}

// sweep deals with the first zombie there is, or where that is spared with those
// behind it; false when there is nothing to do until the next hint. The kernel
// offers zombies in the order of the child lists.
func (r *orphanReaper) sweep() bool {
	info, err := waitid(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
	if err != nil || info.pid == 0 {
		return false
	}
	if r.take(info.pid) {
		return true
	}
	progress := false
	pids, _ := firstThreadsChildren()
	for _, pid := range pids {
		info, err := waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
		if err == nil && info.pid == pid {
			progress = r.take(pid) || progress
		}
	}
	return progress
}

// take deals with one zombie, and tells whether it has gone. One that is owned is
// waited for: its watcher is about to reap it.
func (r *orphanReaper) take(pid int) bool {
	r.s.mu.Lock()
	if p := r.s.owned[pid]; p != nil {
		r.s.mu.Unlock()
		select {
		case <-p.done:
			return true
		case <-r.stop:
			return false
		}
	}
	defer r.s.mu.Unlock()
	if len(r.s.spares) > 0 && mayBeWaitedFor(pid) {
		r.s.noteSparedLocked(pid)
		return false // Release gives the next hint
	}
	return r.reapLocked(pid)
}

// reapLocked reaps one zombie that nobody owns. The lock keeps a Hold from being
// taken in between. What is a zombie now was not made by anything that a later
// Hold covers.
func (r *orphanReaper) reapLocked(pid int) bool {
	if len(r.s.reaped) >= maxReaped {
		return false // Release gives the next hint
	}
	info, err := waitid(unix.P_PID, pid, unix.WEXITED|unix.WNOHANG)
	if err != nil || info.pid == 0 {
		return false
	}
	if r.s.holds > 0 {
		if r.s.reaped == nil {
			r.s.reaped = make(map[int]Exit)
		}
		r.s.reaped[info.pid] = Exit{Status: info.shellStatus(), At: time.Now(), Known: true}
	}
	return true
}

// mayBeWaitedFor tells whether a zombie may be one that other code of this
// program has forked: it is in our session, or a child of a thread of ours other
// than the first. What re-parents to us from a container is in a session of its
// own (the init and the execs are leaders, setsid(2)), and goes to our first
// thread, which forks nothing where other code forks.
func mayBeWaitedFor(pid int) bool {
	ours, err := unix.Getsid(0)
	if err != nil {
		return true
	}
	theirs, err := unix.Getsid(pid)
	if err != nil || theirs == ours {
		return true
	}
	first, err := firstThreadsChildren()
	return err == nil && !slices.Contains(first, pid)
}

// firstThreadsChildren fails on a kernel without CONFIG_PROC_CHILDREN.
func firstThreadsChildren() (pids []int, err error) {
	self := os.Getpid()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", self, self))
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(string(list)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
