// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// cgroupParent is that of the node's pods: its cgroup, or its slice, which lies in
// berth.slice (systemd.slice(5)).
func (n *Node) cgroupParent() string {
	if n.config.Systemd {
		return n.id + ".slice"
	}
	return "/" + n.id
}

// CgroupsPath is what the spec of a container of the node has.
func (n *Node) CgroupsPath(container string) string {
	if n.config.Systemd {
		return n.cgroupParent() + ":" + n.id + ":" + container
	}
	return filepath.Join(n.cgroupParent(), container)
}

// removeUnits stops the node's slice, and reports scopes: one that has failed has
// no cgroup any more. The CRI names its own by no node, so that a machine may have
// one node of this kind at a time.
func (n *Node) removeUnits() error {
	if !n.config.Systemd {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), exitTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--", n.id+"-*.scope", "cri-containerd-*.scope").Output()
	if err != nil {
		return fmt.Errorf("list units: %w", err)
	}
	if left := strings.TrimSpace(string(out)); left != "" {
		err = &LeakError{"unit", left}
	}
	if out, stop := exec.CommandContext(ctx, "systemctl", "stop", n.cgroupParent()).CombinedOutput(); stop != nil {
		return fmt.Errorf("stop the node's slice: %w: %s", stop, out)
	}
	return err
}
