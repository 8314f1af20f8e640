// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"berth/test/e2e/conformance/daemon"
)

// addNode makes a daemon whose pods share a shim, and a control.
func (b *bench) addNode() error {
	config := filepath.Join(b.dir, "node.toml")
	if err := os.WriteFile(config, []byte("group = \"node\"\n"), 0o600); err != nil {
		return err
	}
	return b.add(&b.node, "n",
		side{name: "node", shim: b.options.shim, env: []string{"BERTH_SHIM_CONFIG=" + config}},
		side{name: "control", shim: b.options.control, runtime: b.options.runtime})
}

// nodeMemory measures many idle pods of one container.
func (b *bench) nodeMemory(ctx context.Context, r *report) error {
	f := &fleet{}
	err := b.node.alternate(0, func(which int, d *daemon.Daemon) error {
		for i := range b.options.nodePods {
			id := fmt.Sprintf("pod%d", i)
			if err := f.add(ctx, which, d, id, id, shape{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	all, err := f.settled(ctx)
	if err != nil {
		return err
	}
	if len(all[0]) != 1 {
		return fmt.Errorf("%d shims serve the node, want one", len(all[0]))
	}
	if len(all[1]) != b.options.nodePods {
		return fmt.Errorf("%d shims of the control serve %d pods, want as many", len(all[1]), b.options.nodePods)
	}
	for which, list := range all {
		total := 0
		for _, u := range list {
			total += u.pss
		}
		r.Node.memory(nodePSS, which, total)
	}
	return f.down(ctx)
}
