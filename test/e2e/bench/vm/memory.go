// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory measures a machine that does nothing.
func (b *bench) memory(ctx context.Context, c *container, what string) error {
	return everySecond(ctx, func() error {
		own, err := monitorMemory(c.vmm)
		if err != nil {
			return err
		}
		rest, err := c.helpersMemory()
		if err != nil {
			return err
		}
		b.report.addMonitor(own, what)
		b.report.add(fmt.Sprintf(helpers, what), float64(rest)/1024)
		return nil
	})
}

// everySecond calls f once a second. What there is at first is not yet that of
// a machine that is idle, and is left out.
func everySecond(ctx context.Context, f func() error) error {
	const leftOut, counted = 15, 15
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range leftOut + counted {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if i < leftOut {
			continue
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// monitorMemory is what a monitor has for itself.
func monitorMemory(pid int) (parts, error) {
	own, err := anatomy(pid)
	if err != nil {
		return parts{}, err
	}
	files, err := memoryFiles(pid)
	if err != nil {
		return parts{}, err
	}
	own.all += files
	own.guest += files
	return own, nil
}

// helpersMemory is what the shim and its other programs have, in KiB.
func (c *container) helpersMemory() (rest int, _ error) {
	programs, err := descendants(c.own)
	if err != nil {
		return 0, err
	}
	for _, pid := range append(programs, c.own) {
		if pid == c.vmm {
			continue
		}
		pss, err := rollup(pid, "Pss:")
		if err != nil {
			return 0, err
		}
		rest += pss
	}
	return rest, nil
}

// memoryFiles is what a process has in files in memory, in KiB: what a guest has,
// whether the monitor has looked at it or not. A template's, which no clone can
// write to, is not the machine's.
func memoryFiles(pid int) (kib int, _ error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	seen := make(map[uint64]bool)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(path); err != nil || !strings.HasPrefix(to, "/memfd:") {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return 0, err
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		seals, sealErr := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
		if err := errors.Join(err, sealErr, f.Close()); err != nil {
			return 0, err
		}
		if seals&unix.F_SEAL_WRITE == 0 && !seen[st.Ino] {
			seen[st.Ino] = true
			kib += int(st.Blocks / 2)
		}
	}
	return kib, nil
}

// rollup reads one number of /proc/PID/smaps_rollup (proc(5)), in KiB.
func rollup(pid int, field string) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == field {
			return strconv.Atoi(words[1])
		}
	}
	return 0, fmt.Errorf("smaps_rollup of %d has no %s", pid, field)
}

// descendants are the processes that a process has started, and those that
// these have.
func descendants(of int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has just gone
		}
		// The name may hold anything; fields[1] is the parent (proc_pid_stat(5)).
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[0] != "Z" {
			parent, _ := strconv.Atoi(fields[1]) // 0 is nobody's that we look for
			children[parent] = append(children[parent], pid)
		}
	}
	all := children[of]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all, nil
}
