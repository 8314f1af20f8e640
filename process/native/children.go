// SPDX-License-Identifier: Apache-2.0

package native

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killChildren kills all processes that a thread of this program has forked,
// and those below them: the half-made init, hooks, helpers.
func killChildren(tid int) {
	for _, pid := range children(fmt.Sprintf("/proc/self/task/%d/children", tid)) {
		// A child of ours that is not reaped keeps its number.
		killTree(pid)
	}
}

// killTree stops a process first, so that it makes no more children while they
// are looked up.
func killTree(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has gone
	}
	defer func() { _ = unix.Close(fd) }()
	_ = unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		for _, child := range children(task) {
			killTree(child)
		}
	}
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// children reads what proc_pid_task_children(5) lists; nothing where the kernel
// has no such file, or the thread is gone.
func children(path string) []int {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var pids []int
	for _, word := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(word); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
