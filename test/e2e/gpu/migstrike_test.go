// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// during does something, and in most cases has something killed before it is
// done: after so many calls of NVML, by whomever, that all instants are met.
func (s *storm) during(do func()) {
	s.await()
	const most = 400 // calls; an operation sees some hundreds
	after, what := s.intn(most), s.intn(12)
	calls := s.watch()
	struck := make(chan struct{})
	go func() {
		defer close(struck)
		if !calls.wait(after) {
			return // it was done before
		}
		switch {
		case what < 2:
			s.killHelper()
		case what < 3:
			s.killShim()
		default:
			s.audit()
		}
	}()
	do()
	calls.close()
	<-struck
}

// await waits until containerd is there.
func (s *storm) await() {
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	<-up
}

// calls are those of NVML: each opens the fake's state.
type calls struct{ inotify *os.File }

func (s *storm) watch() calls {
	fd := must(unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK))(s.T)
	must(unix.InotifyAddWatch(fd, s.state, unix.IN_OPEN))(s.T)
	return calls{os.NewFile(uintptr(fd), "inotify")}
}

// wait waits for n calls, or until it is closed.
func (c calls) wait(n int) bool {
	var events [64 * unix.SizeofInotifyEvent]byte
	for n > 0 {
		size, err := c.inotify.Read(events[:])
		if err != nil {
			return false
		}
		n -= size / unix.SizeofInotifyEvent
	}
	return true
}

func (c calls) close() { _ = c.inotify.Close() }

// killHelper kills a helper. Its owner is told from its request: there may be
// nobody now who finishes what it did.
func (s *storm) killHelper() {
	pids := helpers(s.T, s.m.Root)
	if len(pids) == 0 {
		return
	}
	pid := pids[s.intn(len(pids))]
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/fd/0", pid))
	var request struct{ Owner *owner }
	if err != nil || json.Unmarshal(data, &request) != nil || request.Owner == nil {
		return // it has ended, or has just been started
	}
	s.mu.Lock()
	s.alone[request.Owner.String()] = true
	s.mu.Unlock()
	if unix.Kill(pid, unix.SIGKILL) == nil {
		s.note(helperKilled)
	}
}

// killShim kills the youngest shim, which makes or has just made something, or
// any.
func (s *storm) killShim() {
	pids := shims(s.T, "")
	if len(pids) == 0 {
		return
	}
	pid := pids[len(pids)-1]
	if s.intn(2) == 0 {
		pid = pids[s.intn(len(pids))]
	}
	if unix.Kill(pid, unix.SIGKILL) == nil {
		s.note(shimKilled)
	}
}

// killContainerd kills containerd in the midst of what is under way. While it is
// away a shim and a helper die too.
func (s *storm) killContainerd() {
	calls := s.watch()
	calls.wait(s.intn(100))
	calls.close()
	s.mu.Lock()
	up := make(chan struct{})
	s.up = up
	s.mu.Unlock()
	s.note(containerdKilled)
	if err := shared.Kill(); err != nil {
		s.Fatal(err)
	}
	s.killShim()
	s.killHelper()
	if err := shared.Resume(s.ctx); err != nil {
		s.Fatal(err)
	}
	close(up)
}

// shims are the pids of the node's shims that do something, or serve.
func shims(t *testing.T, what string) []int {
	t.Helper()
	return processes(t, func(line string) bool {
		words := append(strings.Fields(line), "")
		last := words[max(0, len(words)-2)]
		return strings.HasPrefix(filepath.Base(words[0]), "containerd-shim-") && strings.Contains(line, shared.Address()) &&
			(last == what || what == "" && last != "start" && last != "delete")
	})
}

// processes are the pids of those with a certain command line, in their order.
func processes(t *testing.T, wanted func(line string) bool) (pids []int) {
	t.Helper()
	for _, path := range must(filepath.Glob("/proc/[0-9]*/cmdline"))(t) {
		data, err := os.ReadFile(path) // it may be gone
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && wanted(strings.ReplaceAll(string(data), "\x00", " ")) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// helpers are the pids of those that work on a machine.
func helpers(t *testing.T, root string) (pids []int) {
	t.Helper()
	return processes(t, func(line string) bool {
		return strings.Contains(line, "berth-gpu mig ") && strings.Contains(line, root)
	})
}
