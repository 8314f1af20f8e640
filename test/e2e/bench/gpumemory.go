// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
)

// shims is how many idle shims of a kind are looked at: the anonymous memory of
// one and the same program differs by some hundred KiB from run to run.
const shims = 5

// idle brings up shims of both kinds with a container without a request, and
// gpu shims with each of the others: these are the kinds.
func (g *gpuBench) idle(ctx context.Context, f *fleet, asked ...request) error {
	for n := range shims {
		for kind, d := range g.daemons {
			if err := f.add(ctx, kind, d, fmt.Sprintf("idle%d", n), "", g.asking(nothing)); err != nil {
				return err
			}
		}
		for i, req := range asked {
			if err := f.add(ctx, len(g.daemons)+i, g.daemons[0], fmt.Sprintf("idle%d-%d", n, i), "", g.asking(req)); err != nil {
				return err
			}
		}
	}
	return nil
}

// memory measures idle shims and the programs.
func (g *gpuBench) memory(ctx context.Context, r *report) error {
	f := &fleet{}
	if err := g.idle(ctx, f, requests[:]...); err != nil {
		return err
	}
	all, err := f.settled(ctx)
	if err != nil {
		return err
	}
	// What the pod shim takes is the same whatever is asked of the other.
	take := func(name string, shim, pod []usage) {
		for which, list := range [][]usage{shim, pod} {
			for _, u := range list {
				r.GPU.memory(name+": PSS", which, u.pss)
				r.GPU.memory(name+": anonymous", which, u.anonymous)
			}
		}
	}
	take("idle", all[0], all[1])
	for i, req := range requests {
		take("idle, "+req.name, all[len(g.daemons)+i], all[1])
	}
	for which, path := range []string{g.options.gpu, g.options.shim} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		r.GPU.memory("program", which, int(info.Size()>>10))
	}
	return f.down(ctx)
}
