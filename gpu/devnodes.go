// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// ControlNodes are the nodes that every container with a GPU needs for what it
// may use. That of nvidia-modeset is left out where its module is not loaded:
// servers have none, and Vulkan and EGL render without.
func (inv *Inventory) ControlNodes(c Capability) ([]Node, error) {
	want := []Node{{Path: "/dev/nvidiactl", Major: nvidiaMajor, Minor: ctlMinor}}
	if c&Compute != 0 {
		uvm, loaded := inv.majors["nvidia-uvm"]
		if !loaded {
			return nil, fmt.Errorf("CUDA needs the module nvidia_uvm, which is not loaded (%s has no nvidia-uvm): %s: %w",
				inv.roots.proc("devices"), nodeAdvice("nvidia-uvm"), errdefs.ErrFailedPrecondition)
		}
		want = append(want, Node{Path: "/dev/nvidia-uvm", Major: uvm, Minor: uvmMinor},
			Node{Path: "/dev/nvidia-uvm-tools", Major: uvm, Minor: toolsMinor})
	}
	if c&(Graphics|Display) != 0 {
		const modeset = "/dev/nvidia-modeset"
		if _, err := inv.roots.Node(modeset); !errors.Is(err, fs.ErrNotExist) {
			want = append(want, Node{Path: modeset, Major: nvidiaMajor, Minor: modesetMinor})
		}
	}
	return inv.find(want)
}

// DeviceNodes are the nodes of a whole GPU, and the links by which programs
// find those of its card. They have none while nvidia_drm is not loaded.
func (inv *Inventory) DeviceNodes(d Device, c Capability) ([]Node, []Link, error) {
	if d.Minor < 0 {
		return nil, nil, fmt.Errorf("the driver says nothing about the GPU at %s: it may have fallen off the bus; see the kernel's log: %w",
			d.BusID, errdefs.ErrFailedPrecondition)
	}
	want, links := []Node{{Path: "/dev/nvidia" + strconv.Itoa(d.Minor), Major: nvidiaMajor, Minor: uint32(d.Minor)}}, []Link(nil)
	var entries []fs.DirEntry
	dir := inv.roots.sys("bus/pci/devices", d.BusID, "drm")
	if c&(Graphics|Display) != 0 {
		entries, _ = os.ReadDir(dir)
	}
	for _, e := range entries {
		_, card := numbered(e.Name(), "card")
		_, render := numbered(e.Name(), "renderD")
		b, err := readProc(dir + "/" + e.Name() + "/dev")
		if !card && !render || err != nil {
			continue
		}
		major, minor, ok := parseDev(b)
		if !ok {
			return nil, nil, fmt.Errorf("%s/%s/dev holds no device number: %w", dir, e.Name(), errdefs.ErrFailedPrecondition)
		}
		want = append(want, Node{Path: "/dev/dri/" + e.Name(), Major: major, Minor: minor})
		name := "/dev/dri/by-path/pci-" + d.BusID + "-card"
		if render {
			name = "/dev/dri/by-path/pci-" + d.BusID + "-render"
		}
		links = append(links, Link{Path: name, Target: "../" + e.Name(), Kind: Module, Capability: Graphics | Display})
	}
	nodes, err := inv.find(want)
	return nodes, links, err
}

// InstanceNodes are the nodes of a MIG device: its GPU's, and those of the
// capabilities to use the GPU instance and the compute instance.
func (inv *Inventory) InstanceNodes(d Device, in Instance) ([]Node, error) {
	nodes, _, err := inv.DeviceNodes(d, 0)
	if err != nil {
		return nil, err
	}
	gi := fmt.Sprintf("gpu%d/mig/gi%d", d.Minor, in.GI)
	for _, name := range []string{gi + "/access", fmt.Sprintf("%s/ci%d/access", gi, in.CI)} {
		n, err := inv.CapNode(name)
		if err != nil {
			return nil, fmt.Errorf("MIG device %d/%d of the GPU at %s: %w", in.GI, in.CI, d.BusID, err)
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// CapNode is the node of a capability by the name of its file below
// /proc/driver/nvidia/capabilities, as in "mig/config" or
// "gpu0/mig/gi1/access". The file says the number (nv-caps.c), the node itself
// exists only once nvidia-modprobe(1) has made it.
func (inv *Inventory) CapNode(name string) (Node, error) {
	file := inv.roots.proc("driver/nvidia/capabilities", name)
	b, err := readProc(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Node{}, fmt.Errorf("%s does not exist: the instance is gone, or the driver has no MIG; see `nvidia-smi mig -lgi`: %w", file, errdefs.ErrNotFound)
	}
	if err != nil {
		return Node{}, fmt.Errorf("read a capability: %w", err)
	}
	major, known := inv.majors["nvidia-caps"]
	minor := number(b, "DeviceFileMinor")
	if !known || minor < 0 {
		return Node{}, fmt.Errorf("%s and %s name no device of a capability: %w", file, inv.roots.proc("devices"), errdefs.ErrFailedPrecondition)
	}
	n, err := inv.node("/dev/nvidia-caps/nvidia-cap"+strconv.Itoa(minor), major, uint32(minor))
	if mode := number(b, "DeviceFileMode"); mode >= 0 && n.Host == "" {
		// nvidia-modprobe makes these root's, with the mode of their file.
		n.Mode, n.UID, n.GID = fs.FileMode(mode)&0o777, 0, 0
	}
	return n, err
}

// find looks up nodes that must have certain numbers.
func (inv *Inventory) find(want []Node) ([]Node, error) {
	var nodes []Node
	for _, w := range want {
		n, err := inv.node(w.Path, w.Major, w.Minor)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// node is a node that must have a certain number. One that the host has not
// made has no Host: a runtime makes it in the container all the same, except
// in a user namespace, where it must be mounted; [Roots.Node] then says what
// is missing.
func (inv *Inventory) node(path string, major, minor uint32) (Node, error) {
	n, err := inv.roots.Node(path)
	if errors.Is(err, fs.ErrNotExist) {
		return inv.unmade(Node{Path: path, Major: major, Minor: minor, Mode: 0o666}), nil
	}
	if err != nil {
		return Node{}, err
	}
	return n, n.check(major, minor)
}

// unmade gives a node the owner and mode with which the driver has its nodes
// made (NVreg_DeviceFileMode and so on).
func (inv *Inventory) unmade(n Node) Node {
	b, _ := readProc(inv.roots.proc("driver/nvidia/params"))
	if mode := number(b, "DeviceFileMode"); mode >= 0 {
		n.Mode = fs.FileMode(mode) & 0o777
	}
	n.UID, n.GID = uint32(max(0, number(b, "DeviceFileUID"))), uint32(max(0, number(b, "DeviceFileGID")))
	return n
}

// check refuses a node that an earlier load of the driver has left behind: it
// may be another device by now.
func (n Node) check(major, minor uint32) error {
	if n.Major == major && n.Minor == minor {
		return nil
	}
	return fmt.Errorf("device node %s is %d:%d, but the driver's device is %d:%d: the node is stale; remove it; then %s: %w",
		n.Host, n.Major, n.Minor, major, minor, nodeAdvice(strings.TrimPrefix(n.Path, "/dev/")), errdefs.ErrFailedPrecondition)
}
