// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"berth/gpu"
	"berth/hooks"
)

// hook measures the hook in this process, from config.json read to config.json
// written, without a shim and without a runtime.
func (g *gpuBench) hook(ctx context.Context, r *report) error {
	const warm = 5
	for _, req := range append([]request{nothing}, requests[:]...) {
		i := named(&r.GPU.Hook, "hook alone, "+req.name)
		for n := range max(3*g.options.rounds, 10) + warm {
			took, err := g.hookOnce(ctx, req, fmt.Sprintf("hook%d", n))
			if err != nil {
				return fmt.Errorf("%s: %w", i.Name, err)
			}
			if n >= warm {
				i.add(0, took, 0)
			}
		}
	}
	return nil
}

func (g *gpuBench) hookOnce(ctx context.Context, req request, id string) (took time.Duration, retErr error) {
	shape := g.asking(req)
	bundle, err := g.daemons[0].Bundle(id, "", []string{"forever"}, shape.edit)
	if err != nil {
		return 0, err
	}
	mounts, err := g.layer(bundle.Dir)
	if err != nil {
		return 0, err
	}
	rootfs := filepath.Join(bundle.Dir, "rootfs")
	if err := unix.Mount("overlay", rootfs, "overlay", 0, strings.Join(mounts[0].Options, ",")); err != nil {
		return 0, fmt.Errorf("mount the container's layer: %w", err)
	}
	defer func() {
		retErr = errors.Join(retErr, unix.Unmount(rootfs, 0), bundle.Close(), os.RemoveAll(bundle.Dir))
	}()
	h := gpu.NewHook(g.conf, nil, g.daemons[0].Name, nil) // the helper is not needed
	chain := hooks.Chain{hooks.Sanity{}, h}
	begin := time.Now()
	spec, err := hooks.LoadSpec(bundle.Dir, id)
	if err != nil {
		return 0, err
	}
	if err := chain.Create(ctx, spec); err != nil {
		return 0, err
	}
	if err := chain.Mounted(ctx, spec); err != nil {
		return 0, errors.Join(err, chain.Delete(ctx, id))
	}
	took = time.Since(begin)
	return took, chain.Delete(ctx, id)
}
