// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"

	"berth/test/e2e/conformance/daemon"
)

const (
	// soakSteps is how often memory is read in each part of a soak, after the
	// first tenth, in which the Go runtime makes what it then keeps.
	soakSteps = 9
	// soakCalm is how long memory must not change before it is read: longer than
	// the shim waits between two collections (shim/memory.go).
	soakCalm = 20 * time.Second
	// mostGrowthKiB is what the second half of a part may have beyond the first,
	// of the medians of each: the noise of an idle shim was 40 KiB.
	mostGrowthKiB = 128
)

// soak runs execs and then whole containers in one pod, over one connection as
// containerd does, and fails if the shim's memory grows.
func (b *bench) soak(ctx context.Context, out io.Writer) error {
	d := b.daemons[0]
	pod, _, err := up(ctx, d, "soak", "soak")
	if err != nil {
		return err
	}
	resp, err := pod.shim.Task.Connect(ctx, &task.ConnectRequest{ID: "soak"})
	if err != nil {
		return err
	}
	s := soaked{pid: resp.ShimPid, out: out}
	err = s.part(ctx, "execs", b.options.soakExecs, func(i int) error {
		id := fmt.Sprintf("e%d", i)
		_, err := pod.exec(ctx, id)
		return err
	})
	if err != nil {
		return err
	}
	err = s.part(ctx, "containers", b.options.soakLives, func(i int) error {
		return b.live(ctx, d, fmt.Sprintf("soak-%d", i))
	})
	if err != nil {
		return err
	}
	if err := pod.down(ctx, phases{}); err != nil {
		return err
	}
	return b.clean()
}

// live is the life of one more container in the pod.
func (b *bench) live(ctx context.Context, d *daemon.Daemon, id string) error {
	c, p, err := up(ctx, d, id, "soak")
	if err != nil {
		return err
	}
	return c.down(ctx, p)
}

// soaked is the shim of a soak.
type soaked struct {
	pid uint32
	out io.Writer
}

// part does one thing n times and reads the memory in between.
func (s *soaked) part(ctx context.Context, what string, n int, do func(i int) error) error {
	if n == 0 {
		return nil
	}
	var kib []int
	next := 0
	for step := range soakSteps + 1 {
		for ; next < n*(step+1)/(soakSteps+1); next++ {
			if err := do(next); err != nil {
				return fmt.Errorf("%s %d: %w", what, next, err)
			}
		}
		u, err := s.calm(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s %7d %s: anonymous %d KiB, PSS %d KiB\n", time.Now().UTC().Format(time.TimeOnly), next, what, u.anonymous, u.pss)
		if step > 0 {
			kib = append(kib, u.anonymous)
		}
	}
	first, second := median(kib[:len(kib)/2]), median(kib[len(kib)/2:])
	fmt.Fprintf(s.out, "%s: %+d KiB between the halves, of at most %d; %.1f bytes for each\n",
		what, second-first, mostGrowthKiB, float64(second-first)*1024/(float64(n)*0.45))
	if second-first > mostGrowthKiB {
		return fmt.Errorf("the shim grows by %d KiB in the second half of %d %s, and may by %d", second-first, n, what, mostGrowthKiB)
	}
	return nil
}

func median(list []int) int {
	list = slices.Clone(list)
	slices.Sort(list)
	return (list[(len(list)-1)/2] + list[len(list)/2]) / 2
}

// calm waits until the shim's memory has been the same for a while.
func (s *soaked) calm(ctx context.Context) (usage, error) {
	f := fleet{pids: [][]uint32{{s.pid}}}
	all, err := f.settledFor(ctx, soakCalm)
	if err != nil {
		return usage{}, err
	}
	return all[0][0], nil
}
