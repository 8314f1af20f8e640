// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"berth/test/e2e/conformance/daemon"
)

// stages are the phases of a life, in their order.
var stages = [...]string{"shim", "create", "start", "kill", "delete"}

// contender is one kind of container under one of the shims.
type contender struct {
	shape shape
	d     *daemon.Daemon
}

// round are the lives of one round, by contender.
type round struct {
	plain [2][2]phases                 // by shim, twice: a percent needs more samples than ten
	with  [len(requests)]phases        // under the gpu shim
	given [len(requests)]phases        // with the same, put into the spec before, under the pod shim
	slots [4 + 2*len(requests)]*phases // all of these
}

func newRound() *round {
	r := &round{}
	r.slots = [...]*phases{&r.plain[0][0], &r.plain[1][0], &r.plain[0][1], &r.plain[1][1],
		&r.with[0], &r.given[0], &r.with[1], &r.given[1]}
	return r
}

// contenders are in the order of a round's slots.
func (g *gpuBench) contenders(ctx context.Context) ([]contender, error) {
	shim, pod, plain := g.daemons[0], g.daemons[1], g.asking(nothing)
	list := []contender{{plain, shim}, {plain, pod}, {plain, shim}, {plain, pod}}
	for _, req := range requests {
		given, err := g.given(ctx, req)
		if err != nil {
			return nil, err
		}
		list = append(list, contender{g.asking(req), shim}, contender{given, pod})
	}
	return list, nil
}

// lives measures lives of one container: under both shims without a request,
// under the gpu shim with each request, and under the pod shim with what the
// request comes to. All of them run in each round, the first one changing.
func (g *gpuBench) lives(ctx context.Context, r *report) error {
	list, err := g.contenders(ctx)
	if err != nil {
		return err
	}
	for n := range g.options.rounds + 1 {
		now := newRound()
		for i := range list {
			at := (i + n) % len(list)
			c, p, err := upAs(ctx, list[at].d, fmt.Sprintf("gpu%d-%d", n, at), "", list[at].shape)
			if err != nil {
				return err
			}
			if err := c.down(ctx, p); err != nil {
				return err
			}
			*now.slots[at] = p
		}
		if n > 0 { // the first fills the caches, that of the driver's files too
			r.GPU.lives(now)
		}
	}
	return nil
}

// lives takes the samples of a round.
func (g *gpuReport) lives(now *round) {
	for which, twice := range now.plain {
		for _, p := range twice {
			for _, name := range stages {
				g.time(name, which, p[name])
			}
			g.time("life", which, p.life())
		}
	}
	for i, req := range requests {
		for _, name := range []string{"create", "delete", "life"} {
			without, control := mean(now.plain[0], name), mean(now.plain[1], name)
			g.injection(req.name+": "+name).add(without, now.with[i].of(name), now.given[i].of(name)-control)
		}
	}
}

func mean(twice [2]phases, name string) time.Duration {
	return (twice[0].of(name) + twice[1].of(name)) / 2
}

// of is a phase, or the whole life.
func (p phases) of(name string) time.Duration {
	if name == "life" {
		return p.life()
	}
	return p[name]
}

func (p phases) life() (total time.Duration) {
	for _, name := range stages {
		total += p[name]
	}
	return total
}
