// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"os"
	"path"
	"strconv"

	"github.com/containerd/errdefs"
)

// Extra is a use of devices beside the GPUs.
type Extra string

// The extras, as NVIDIA_IMEX_CHANNELS, NVIDIA_GDS and so on ask for them.
const (
	IMEX     Extra = "IMEX channels"
	GDS      Extra = "GPUDirect Storage"
	MOFED    Extra = "InfiniBand"
	GDRCopy  Extra = "GDRCopy"
	NVSwitch Extra = "NVSwitch"
)

// where says in which directory below /dev an extra's nodes are, what they are
// called, an example, and the name of their major in /proc/devices.
func (e Extra) where() (dir string, patterns []string, example, driver string) {
	switch e {
	case IMEX:
		return imexDir, []string{"channel*"}, imexDir + "/channel0", imexDir
	case GDS:
		return "", []string{"nvidia-fs*"}, "nvidia-fs0", "nvidia-fs"
	case MOFED:
		return "infiniband", []string{"uverbs*", "rdma_cm"}, "infiniband/uverbs0", ""
	case GDRCopy:
		return "", []string{"gdrdrv"}, "gdrdrv", "gdrdrv"
	case NVSwitch:
		return "", []string{"nvidia-nvswitch*"}, "nvidia-nvswitch0", "nvidia-nvswitch"
	}
	return "", nil, "", ""
}

const imexDir = "nvidia-caps-imex-channels"

// ExtraNodes are all nodes of an extra. A host that has none is an error that
// says what to load.
func (inv *Inventory) ExtraNodes(e Extra) ([]Node, error) {
	dir, patterns, example, driver := e.where()
	entries, _ := os.ReadDir(inv.roots.dev(dir))
	var nodes []Node
	for _, pattern := range patterns {
		for _, entry := range entries {
			if ok, _ := path.Match(pattern, entry.Name()); !ok {
				continue
			}
			n, err := inv.existing(path.Join("/dev", dir, entry.Name()), driver)
			if err != nil {
				return nil, err
			}
			nodes = append(nodes, n)
		}
	}
	if nodes == nil {
		return nil, fmt.Errorf("%.64s: the host has no /dev/%s: %s: %w", e, example, nodeAdvice(example), errdefs.ErrFailedPrecondition)
	}
	return nodes, nil
}

// IMEXNode is the node of one channel. The administrator grants a channel by
// making its node: it is not made up where it is missing.
func (inv *Inventory) IMEXNode(channel int) (Node, error) {
	return inv.existing("/dev/"+imexDir+"/channel"+strconv.Itoa(channel), imexDir)
}

// existing is a node that the host must have, with its driver's major where
// /proc/devices has that by name.
func (inv *Inventory) existing(path, driver string) (Node, error) {
	n, err := inv.roots.Node(path)
	if major, known := inv.majors[driver]; err == nil && known {
		err = n.check(major, n.Minor)
	}
	return n, err
}
