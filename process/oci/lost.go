// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/process"

	"golang.org/x/sys/unix"
)

// killLost kills the process that a failed call may have made. Its pid file names it, or else
// its stdio gives it away.
func killLost(hold *process.Hold, pidFile string, stdio []*os.File) error {
	parents, self := parents(), os.Getpid()
	pids := childrenWith(parents, stdio)
	if pid, err := readPid(pidFile); err == nil && parents[pid] == self {
		// Only a child of ours: the number of one that the runtime has reaped may be anybody's.
		pids = []int{pid}
	}
	timeout := time.NewTimer(killTimeout)
	defer timeout.Stop()
	var errs []error
	for _, pid := range pids {
		p, err := hold.Adopt(pid)
		if err != nil {
			errs = append(errs, err, unix.Kill(pid, unix.SIGKILL))
			continue
		}
		_ = p.Signal(unix.SIGKILL)
		select {
		case <-p.Done():
		case <-timeout.C:
			errs = append(errs, fmt.Errorf("process %d, made by a call that failed, does not end after SIGKILL", pid))
		}
	}
	return errors.Join(errs...)
}

// descendants are the pids of all processes below pid, as far as they can be seen.
func descendants(pid int) []int {
	parents := parents()
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		for child, parent := range parents {
			if parent == out[i] && !slices.Contains(out, child) {
				out = append(out, child)
			}
		}
	}
	return out[1:]
}

// childrenWith are the children of this process that have one of files as stdin, stdout or
// stderr. The pipes of one exec are its own, so this finds a process whose pid was lost.
func childrenWith(parents map[int]int, files []*os.File) []int {
	type inode struct{ dev, ino uint64 }
	ours := map[inode]bool{}
	for _, f := range files {
		var st unix.Stat_t
		if f != nil && unix.Fstat(int(f.Fd()), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			ours[inode{st.Dev, st.Ino}] = true
		}
	}
	if len(ours) == 0 {
		return nil
	}
	var out []int
	self := os.Getpid()
	for pid, parent := range parents {
		for fd := 0; parent == self && fd < 3; fd++ {
			var st unix.Stat_t
			if unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), &st) == nil && ours[inode{st.Dev, st.Ino}] {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}

// parents maps every process to its parent, from proc_pid_stat(5). It is read on paths of
// failure only.
func parents() map[int]int {
	out := map[int]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name, in parentheses, is the process's own choice and may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 {
			out[pid], _ = strconv.Atoi(fields[1])
		}
	}
	return out
}
