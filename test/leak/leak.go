// SPDX-License-Identifier: Apache-2.0

// Package leak checks, at the end of a package's tests, that they left
// nothing behind: no descriptor, goroutine or child process. Cgroups and
// mounts, which are the machine's and not the process's, are checked by the
// tests that make them and know their names.
//
// What does not belong here: tests of more than one process; those look for
// leftovers by themselves (test/e2e/node).
package leak

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// state is what a process holds.
type state struct {
	fds      map[string]string // number -> what it is
	children bool
}

// Main runs a package's tests and returns the exit code, which is not 0 if a
// test failed or left something. It is called from TestMain.
func Main(m *testing.M) int {
	before := now()
	code := m.Run()
	if code != 0 {
		return code
	}
	var left []string
	for end := time.Now().Add(settle); ; time.Sleep(time.Millisecond) {
		left = leftovers(before)
		if len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	if len(left) == 0 {
		return 0
	}
	sort.Strings(left)
	fmt.Fprintf(os.Stderr, "the tests left behind:\n  %s\n", strings.Join(left, "\n  "))
	return 1
}

// settle is how long what is ending by itself may take: a library's server
// that was closed does not wait for its connections' goroutines. What is left
// after that is a leak.
const settle = 5 * time.Second

func leftovers(before state) (left []string) {
	after := now()
	for fd, what := range after.fds {
		if _, ok := before.fds[fd]; !ok && !kept(what) {
			left = append(left, "descriptor "+fd+": "+what)
		}
	}
	if after.children {
		left = append(left, "a child process")
	}
	return append(left, goroutines()...)
}

// kept tells of descriptors that stay open by design: those of the Go runtime's
// poller, once it has begun, and what runc's library opens once: the root of the
// cgroups, and a procfs that is mounted nowhere.
func kept(what string) bool {
	return strings.Contains(what, "[event") || what == "/sys/fs/cgroup" || what == "/"
}

func now() state {
	s := state{fds: make(map[string]string)}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if what, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			s.fds[e.Name()] = what
		}
	}
	// ECHILD: there is no child, not even a zombie (waitid(2)).
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	s.children = err != unix.ECHILD
	return s
}

// goroutines lists those that are neither this one nor the runtime's or the
// testing package's own.
func goroutines() []string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for _, g := range strings.Split(string(buf), "\n\n")[1:] {
		if strings.Contains(g, "os/signal.") || strings.Contains(g, "testing.") {
			continue
		}
		left = append(left, "goroutine: "+strings.ReplaceAll(strings.TrimSpace(g), "\n", "\n    "))
	}
	return left
}
