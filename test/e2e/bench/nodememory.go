// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"berth/test/e2e/conformance/daemon"
)

// mostNodePSSRatio is what one shim for a hundred pods may have of the memory of
// a hundred of the control's.
const mostNodePSSRatio = 0.05

// nodeMemory measures what pods of one container each cost all together: by one
// shim for all of them, and by the control, which has one for each. It fails if
// ours are more than one, or over budget.
func (b *bench) nodeMemory(ctx context.Context, out io.Writer, pods int) (retErr error) {
	var daemons pair
	defer func() {
		for _, d := range daemons {
			if d != nil {
				retErr = errors.Join(retErr, d.Close())
			}
		}
	}()
	if err := b.pair(&daemons, "node", b.options.shim, b.options.control); err != nil {
		return err
	}
	config := filepath.Join(b.dir, "node.toml")
	if err := os.WriteFile(config, []byte("group = \"node\"\n"), 0o600); err != nil {
		return err
	}
	daemons[0].Env = []string{"BERTH_SHIM_CONFIG=" + config}

	f := &fleet{}
	err := daemons.alternate(0, func(which int, d *daemon.Daemon) error {
		for pod := range pods {
			id := fmt.Sprintf("pod%d", pod)
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
	var pss, anonymous [2]int
	for which, list := range all {
		for _, u := range list {
			pss[which] += u.pss
			anonymous[which] += u.anonymous
		}
	}
	ratio := float64(pss[0]) / float64(pss[1])
	fmt.Fprintf(out, "%d pods: %d shim of ours, PSS %d KiB, anonymous %d KiB, %d KiB a pod; %d of the control's, PSS %d KiB, anonymous %d KiB; PSS %.3f of theirs (budget %.2f)\n",
		pods, len(all[0]), pss[0], anonymous[0], anonymous[0]/pods, len(all[1]), pss[1], anonymous[1], ratio, mostNodePSSRatio)
	if err := f.down(ctx); err != nil {
		return err
	}
	if len(all[0]) != 1 {
		return fmt.Errorf("%d shims serve the node, want one", len(all[0]))
	}
	if ratio > mostNodePSSRatio {
		return errors.New("the PSS of one shim for a node is over budget")
	}
	return nil
}
