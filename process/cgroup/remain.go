// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// remainListed bounds how many processes an error names.
const remainListed = 16

// remain is the error of a kill that ran out of time: which processes are left,
// in which state, and the kernel function that each sleeps in (proc(5):
// /proc/pid/stat, /proc/pid/wchan), which is what an operator needs to know of
// a process in uninterruptible sleep. It is nil if the last one has died just now.
func (c *Cgroup) remain(ctx context.Context, members []string) error {
	cause := context.Cause(ctx)
	if cause == nil {
		// The poller's timer may be ahead of the context's.
		cause = context.DeadlineExceeded
	}
	pids, err := c.pids(members)
	if err != nil {
		return fmt.Errorf("kill cgroup: %w: %w", err, cause)
	}
	if len(pids) == 0 {
		populated := false
		if slices.Contains(members, Unified) {
			populated, err = c.populated()
		}
		if err != nil {
			return fmt.Errorf("kill cgroup: %w: %w", err, cause)
		}
		if !populated {
			return nil
		}
		return fmt.Errorf("kill cgroup: its last process is still exiting: %w", cause)
	}
	var list strings.Builder
	for i, pid := range pids {
		if i == remainListed {
			fmt.Fprintf(&list, " and %d more", len(pids)-i)
			break
		}
		if i > 0 {
			list.WriteString(", ")
		}
		list.WriteString(c.view.describe(pid))
	}
	return fmt.Errorf("kill cgroup: %d processes are left: %s: %w", len(pids), list.String(), cause)
}

// describe names a process for a person.
func (v view) describe(pid int) string {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := v.readFile(filepath.Join(dir, "stat"))
	if err != nil {
		return fmt.Sprintf("pid %d (gone)", pid)
	}
	comm, state := parseStat(stat)
	wchan, err := v.readFile(filepath.Join(dir, "wchan"))
	if at := strings.TrimSpace(string(wchan)); err == nil && at != "" && at != "0" {
		return fmt.Sprintf("pid %d (%q, state %s, in %s)", pid, comm, state, at)
	}
	return fmt.Sprintf("pid %d (%q, state %s)", pid, comm, state)
}

// parseStat takes the command name and the state letter out of /proc/pid/stat.
// The name is the process's own choice and may hold blanks and parentheses: it
// ends at the last one.
func parseStat(text []byte) (comm, state string) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return "?", "?"
	}
	comm = string(text[open+1 : end])
	letter, _ := nextField(text[end+1:])
	if len(letter) == 0 {
		return comm, "?"
	}
	return comm, string(letter)
}
