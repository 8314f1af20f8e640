// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"

	"berth/test/e2e/conformance/daemon"
)

// usage is a process's memory in KiB, of /proc/PID/smaps_rollup (proc(5)).
type usage struct{ rss, pss, anonymous int }

func readUsage(pid uint32) (u usage, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return u, err
	}
	fields := map[string]*int{"Rss:": &u.rss, "Pss:": &u.pss, "Anonymous:": &u.anonymous}
	found := 0
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || fields[words[0]] == nil {
			continue
		}
		if *fields[words[0]], err = strconv.Atoi(words[1]); err != nil {
			return u, err
		}
		found++
	}
	if found != len(fields) {
		return u, fmt.Errorf("smaps_rollup of %d lacks a field", pid)
	}
	return u, nil
}

// fleet is idle shims of several kinds.
type fleet struct {
	containers []*container
	pids       [][]uint32 // by kind
}

// add brings up a container in a pod of its own, or in that of a container
// before it, whose shim is counted already.
func (f *fleet) add(ctx context.Context, kind int, d *daemon.Daemon, id, group string, s shape) error {
	c, _, err := upAs(ctx, d, id, group, s)
	if err != nil {
		return err
	}
	f.containers = append(f.containers, c)
	resp, err := c.shim.Task.Connect(ctx, &task.ConnectRequest{ID: c.bundle.ID})
	if err != nil {
		return err
	}
	for len(f.pids) <= kind {
		f.pids = append(f.pids, nil)
	}
	if !slices.Contains(f.pids[kind], resp.ShimPid) {
		f.pids[kind] = append(f.pids[kind], resp.ShimPid)
	}
	return nil
}

// launch brings up shims pods of the given number of containers, for both.
func (b *bench) launch(ctx context.Context, shims, containers int) (*fleet, error) {
	f := &fleet{}
	err := b.daemons.alternate(0, func(which int, d *daemon.Daemon) error {
		for pod := range shims {
			group := fmt.Sprintf("idle%d-%d-%d", shims, containers, pod)
			for i := range containers {
				if err := f.add(ctx, which, d, fmt.Sprintf("%s-%d", group, i), group, shape{}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	return f, f.holds(shims)
}

// holds fails unless each kind has this number of shims: the first of two that
// share a pod would pass for one to which a container costs nothing.
func (f *fleet) holds(shims int) error {
	for kind, pids := range f.pids {
		if len(pids) != shims {
			return fmt.Errorf("%d shims of kind %d serve the pods, want %d", len(pids), kind, shims)
		}
	}
	return nil
}

// settled waits until the shims' memory has not changed for longer than the
// control's period of giving memory back to the kernel (30 s, pkg/shim/shim.go),
// and returns what each uses then.
func (f *fleet) settled(ctx context.Context) ([][]usage, error) {
	return f.settledFor(ctx, 32*time.Second)
}

// settledFor waits until no kind's anonymous memory has changed by more than noise
// for a while: 64 KiB, or a hundredth of all shims of that kind.
func (f *fleet) settledFor(ctx context.Context, calm time.Duration) (all [][]usage, err error) {
	const noise, patience = 64, 3 * time.Minute
	begin, since := time.Now(), time.Now()
	last := make([]int, len(f.pids))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		all = make([][]usage, len(f.pids))
		for kind, pids := range f.pids {
			total := 0
			for _, pid := range pids {
				u, err := readUsage(pid)
				if err != nil {
					return all, err
				}
				all[kind] = append(all[kind], u)
				total += u.anonymous
			}
			if d := total - last[kind]; max(d, -d) > max(noise, total/100) {
				since, last[kind] = time.Now(), total
			}
		}
		switch {
		case time.Since(since) > calm:
			return all, nil
		case time.Since(begin) > patience:
			return all, errors.New("the idle shims' memory does not settle")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return all, ctx.Err()
		}
	}
}

// down removes every container.
func (f *fleet) down(ctx context.Context) error {
	var errs []error
	for _, c := range f.containers {
		errs = append(errs, c.down(ctx, phases{}))
	}
	return errors.Join(errs...)
}

// memory measures idle shims: one of each with one container, with five and with
// twenty, and many of each, whose pages of the program are shared.
func (b *bench) memory(ctx context.Context, r *report) error {
	alone := make([]int, len(b.daemons)) // anonymous memory with one container
	for _, size := range []struct{ shims, containers int }{{1, 1}, {1, 5}, {1, 20}, {b.options.rounds, 1}} {
		f, err := b.launch(ctx, size.shims, size.containers)
		if err != nil {
			return err
		}
		all, err := f.settled(ctx)
		if err != nil {
			return err
		}
		name := fmt.Sprintf(idleName, size.shims, size.containers)
		for which, list := range all {
			for _, u := range list {
				r.memory(name+": PSS", which, u.pss)
				r.memory(name+": RSS", which, u.rss)
				r.memory(name+": anonymous", which, u.anonymous)
				switch size.containers {
				case 1:
					alone[which] = u.anonymous
				case 20:
					r.memory(eachFurther, which, (u.anonymous-alone[which])/19)
				}
			}
		}
		if err := f.down(ctx); err != nil {
			return err
		}
	}
	return nil
}
