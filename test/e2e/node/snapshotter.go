// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// chooseSnapshotter chooses the node's snapshotter, makes what it needs, and
// returns the plugins that are off, as the configuration has them.
func (n *Node) chooseSnapshotter() (unused string, err error) {
	all := []string{"'io.containerd.snapshotter.v1.blockfile',", "'io.containerd.snapshotter.v1.erofs',"}
	n.snapshotter = n.config.Snapshotter
	switch n.snapshotter {
	case "":
		n.snapshotter, err = snapshotterFor(n.dir)
	case "erofs":
	case "blockfile": // begins with a copy of a file system
		scratch := filepath.Join(n.dir, "scratch")
		var out []byte
		if out, err = exec.Command("mkfs.ext4", "-q", scratch, DiskSize).CombinedOutput(); err != nil {
			err = fmt.Errorf("make the scratch file of blockfile: %w: %s", err, out)
		}
	default:
		err = fmt.Errorf("the node has no snapshotter %q", n.snapshotter)
	}
	all = slices.DeleteFunc(all, func(plugin string) bool { return strings.Contains(plugin, "."+n.snapshotter+"'") })
	return strings.Join(all, "\n  "), err
}

// snapshotterFor returns overlayfs, or native where dir is itself on an overlay,
// which the kernel does not stack a writable overlay on.
func snapshotterFor(dir string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "", fmt.Errorf("statfs %s: %w", dir, err)
	}
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native", nil
	}
	return "overlayfs", nil
}
