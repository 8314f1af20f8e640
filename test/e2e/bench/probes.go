// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"

	"berth/test/e2e/conformance/daemon"
)

const (
	// userHZ is the unit of the CPU times in /proc, on every architecture that Go
	// has (USER_HZ, proc_pid_stat(5)). They are summed in nanoseconds.
	userHZ = 100
	// batch is how many execs make one sample: some hundred ticks.
	batch = 100
)

// probes measures what execs one after the other, as a kubelet's probes are, cost
// of CPU time: of the shim, and of all that it has reaped, the runtime, its
// helpers and the processes themselves.
func (b *bench) probes(ctx context.Context, r *report) error {
	for round := range b.options.rounds {
		err := b.daemons.alternate(round, func(which int, d *daemon.Daemon) error {
			id := fmt.Sprintf("probed%d", round)
			c, p, err := up(ctx, d, id, "")
			if err != nil {
				return err
			}
			resp, err := c.shim.Task.Connect(ctx, &task.ConnectRequest{ID: id})
			if err != nil {
				return err
			}
			before, err := cpuTime(resp.ShimPid)
			if err != nil {
				return err
			}
			for i := range batch {
				if _, err := c.exec(ctx, fmt.Sprintf("e%d", i)); err != nil {
					return err
				}
			}
			after, err := cpuTime(resp.ShimPid)
			if err != nil {
				return err
			}
			r.time(probesCPU, which, (after-before)*1000/batch)
			return c.down(ctx, p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cpuTime is that of a process and of its children that were waited for: fields 14
// to 17 of /proc/PID/stat (proc_pid_stat(5)).
func cpuTime(pid uint32) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name is before
	fields := strings.Fields(rest)                // from the third on
	if len(fields) < 15 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHZ, nil
}
