// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"berth/test/e2e/conformance/daemon"
)

// lives measures the phases of one container's life, alone on the host, and five
// execs in each.
func (b *bench) lives(ctx context.Context, r *report) error {
	const execs = 5
	for round := range b.options.rounds + 1 {
		err := b.daemons.alternate(round, func(which int, d *daemon.Daemon) error {
			c, p, err := up(ctx, d, fmt.Sprintf("life%d", round), "")
			if err != nil {
				return err
			}
			var took []phases
			for i := range execs {
				t, err := c.exec(ctx, fmt.Sprintf("e%d", i))
				if err != nil {
					return err
				}
				took = append(took, t)
			}
			if err := c.down(ctx, p); err != nil {
				return err
			}
			if round == 0 {
				return nil // cold caches
			}
			r.time(startUp, which, p["shim"]+p["create"]+p["start"])
			var total time.Duration
			for _, name := range []string{"shim", "create", "start", "kill", "delete", deleteCommand} {
				r.time(name, which, p[name])
				if name != deleteCommand { // a part of delete
					total += p[name]
				}
			}
			for _, t := range took {
				r.time("exec", which, t["exec"])
				r.time(execCycle, which, t["exec"]+t["delete"])
			}
			r.time("life without execs", which, total)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// crowd starts many pods at the same time and removes them at the same time.
func (b *bench) crowd(ctx context.Context, r *report) error {
	n := b.options.pods
	for round := range b.options.rounds {
		err := b.daemons.alternate(round, func(which int, d *daemon.Daemon) error {
			pods := make([]*container, n)
			begin := time.Now()
			err := each(n, func(i int) (err error) {
				pods[i], _, err = up(ctx, d, fmt.Sprintf("crowd%d-%d", round, i), "")
				return err
			})
			if err != nil {
				return err
			}
			r.time(podsUp, which, time.Since(begin))
			begin = time.Now()
			if err := each(n, func(i int) error { return pods[i].down(ctx, phases{}) }); err != nil {
				return err
			}
			r.time("pods down", which, time.Since(begin))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// execs has clients exec in one container, each over its own connection.
func (b *bench) execs(ctx context.Context, r *report) error {
	const perClient = 10
	n := b.options.clients
	for round := range b.options.rounds {
		err := b.daemons.alternate(round, func(which int, d *daemon.Daemon) error {
			c, p, err := up(ctx, d, fmt.Sprintf("busy%d", round), "")
			if err != nil {
				return err
			}
			begin := time.Now()
			err = each(n, func(client int) error {
				shim, err := daemon.Dial(ctx, c.shim.Address)
				if err != nil {
					return err
				}
				defer shim.Close()
				own := &container{d: d, bundle: c.bundle, shim: shim}
				for i := range perClient {
					if _, err := own.exec(ctx, fmt.Sprintf("e%d-%d", client, i)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			r.add(exitsAtOnce, "1/s", which, float64(n*perClient)/time.Since(begin).Seconds())
			return c.down(ctx, p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each runs f for 0 to n-1 at the same time and returns the first error.
func each(n int, f func(i int) error) error {
	errs := make(chan error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs <- f(i) })
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
