// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// memory measures a machine that does nothing, once what its processes have does
// not change any more.
func (b *bench) memory(ctx context.Context, c *container, what string) error {
	const calm, patience, noise = 10 * time.Second, 2 * time.Minute, 128 // KiB
	begin, since := time.Now(), time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last [2]int
	for {
		helpers, err := descendants(c.own)
		if err != nil {
			return err
		}
		now := [2]int{}
		if now[0], err = rollup(c.vmm, "Private_Dirty:"); err != nil {
			return err
		}
		for _, pid := range append(helpers, c.own) {
			if pid == c.vmm {
				continue
			}
			kib, err := rollup(pid, "Pss:")
			if err != nil {
				return err
			}
			now[1] += kib
		}
		for i := range now {
			if d := now[i] - last[i]; d > noise || d < -noise {
				since, last = time.Now(), now
			}
		}
		switch {
		case time.Since(since) > calm:
			b.report.add(fmt.Sprintf(monitorMemory, what), float64(now[0])/1024)
			b.report.add(fmt.Sprintf(helperMemory, what), float64(now[1])/1024)
			return nil
		case time.Since(begin) > patience:
			return errors.New("the memory of an idle machine does not settle")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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
