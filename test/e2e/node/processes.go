// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// exitTimeout is how long Stop lets a process end by itself: a shim that was told
// to shut down does so after its answer.
const exitTimeout = 5 * time.Second

// Process is one process that belongs to a node.
type Process struct {
	Pid     int
	Command string // its argv, or its name in brackets if it has none
}

// Processes finds the node's processes other than containerd and those below this
// process: shims, containers, and whatever these started.
func (n *Node) Processes() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if n.daemon != nil && pid == n.Pid() {
			continue
		}
		if p, ok := n.process(pid); ok {
			found = append(found, p)
		}
	}
	return found, nil
}

// Shims finds the node's shims that serve: their short-lived start and delete
// commands are not among them.
func (n *Node) Shims() ([]Process, error) {
	all, err := n.Processes()
	if err != nil {
		return nil, err
	}
	var shims []Process
	for _, p := range all {
		words := strings.Fields(p.Command)
		last := words[len(words)-1]
		if strings.HasPrefix(filepath.Base(words[0]), "containerd-shim-") && last != "start" && last != "delete" {
			shims = append(shims, p)
		}
	}
	return shims, nil
}

// process reads one process and says whether it is the node's. A process that ends
// meanwhile is not, and a zombie is its parent's matter.
func (n *Node) process(pid int) (Process, bool) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return Process{}, false
	}
	// The name may hold anything; the state follows the last parenthesis. See proc(5).
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < 0 || end+2 >= len(stat) || stat[end+2] == 'Z' {
		return Process{}, false
	}
	cmdline, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil {
		return Process{}, false
	}
	command := strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	if command == "" {
		command = "[" + string(stat[open+1:end]) + "]"
	}
	for _, file := range []string{"cmdline", "environ", "cgroup"} {
		if content, err := os.ReadFile(filepath.Join(proc, file)); err == nil && bytes.Contains(content, []byte(n.id)) {
			return Process{Pid: pid, Command: command}, true
		}
	}
	for _, link := range []string{"cwd", "root"} {
		if target, err := os.Readlink(filepath.Join(proc, link)); err == nil && strings.Contains(target, n.id) {
			return Process{Pid: pid, Command: command}, true
		}
	}
	return Process{}, false
}

// removeProcesses lets the node's processes end, and kills those that do not; each
// of these is a leak.
func (n *Node) removeProcesses() error {
	deadline := time.Now().Add(exitTimeout)
	var errs []error
	for {
		found, err := n.Processes()
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if len(found) == 0 {
			return errors.Join(errs...)
		}
		for _, p := range found {
			switch gone, err := awaitExit(p.Pid, time.Until(deadline)); {
			case err != nil:
				errs = append(errs, err)
			case !gone:
				errs = append(errs, &LeakError{"process", fmt.Sprintf("%d %s", p.Pid, p.Command)})
				if err := unix.Kill(p.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
					errs = append(errs, fmt.Errorf("kill %d: %w", p.Pid, err))
				}
				if gone, err := awaitExit(p.Pid, exitTimeout); err != nil || !gone {
					return errors.Join(append(errs, fmt.Errorf("process %d outlives SIGKILL: %w", p.Pid, err))...)
				}
			}
		}
	}
}

// awaitExit waits until a process has ended, at most for the time given.
func awaitExit(pid int, timeout time.Duration) (bool, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pidfd of %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	deadline := time.Now().Add(timeout)
	for {
		left := max(time.Until(deadline), 0)
		count, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("poll pidfd of %d: %w", pid, err)
		}
		return count > 0, nil
	}
}
