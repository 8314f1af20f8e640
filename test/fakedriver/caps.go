// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// Capabilities: files below /proc/driver/nvidia whose device node one must open to use them.
// Their minors are places in a fixed table (nv-caps.c of NVIDIA's open kernel modules): one
// of nvlink, two of MIG, then for each of 32 GPUs 15 GPU instances with 8 compute instances.
const (
	capFabric     = 0
	capMIGConfig  = 1
	capMIGMonitor = 2
	capMIGFirst   = 3
	capIMEX       = 4323

	capGPUs = 32
	capGIs  = 15
	capCIs  = 8

	modeRoot = 0o400 // what configures the machine
	modeAll  = 0o444 // what uses an instance: shown as 292
)

func (in Instance) check() error {
	if in.GI < 0 || in.GI >= capGIs || in.CI < NoCI || in.CI >= capCIs {
		return fmt.Errorf("fake driver: instance %d/%d: a GPU instance is 0 to %d, a compute instance 0 to %d: %w",
			in.GI, in.CI, capGIs-1, capCIs-1, errdefs.ErrInvalidArgument)
	}
	return nil
}

// AccessMinor is the minor of an instance's access capability, of the GPU instance if CI is
// [NoCI].
func (g GPU) AccessMinor(in Instance) int {
	return capMIGFirst + (g.Minor*capGIs+in.GI)*(capCIs+1) + in.CI + 1
}

// migMinors is the table /proc/driver/nvidia-caps/mig-minors: the same on every machine.
func migMinors() string {
	var b strings.Builder
	fmt.Fprintf(&b, "config %d\nmonitor %d\n", capMIGConfig, capMIGMonitor)
	for gpu := range capGPUs {
		for gi := range capGIs {
			fmt.Fprintf(&b, "gpu%d/gi%d/access %d\n", gpu, gi, GPU{Minor: gpu}.AccessMinor(Instance{gi, NoCI}))
			for ci := range capCIs {
				fmt.Fprintf(&b, "gpu%d/gi%d/ci%d/access %d\n", gpu, gi, ci, GPU{Minor: gpu}.AccessMinor(Instance{gi, ci}))
			}
		}
	}
	return b.String()
}

// capability writes a capability's file and, if asked, its node.
func (d *Driver) capability(t *tree, path string, minor, mode int, node bool) {
	t.text(path, "DeviceFileMinor: %d\nDeviceFileMode: %d\nDeviceFileModify: 1\n", minor, mode)
	if node {
		t.node(capNode(minor), d.Majors.Caps, minor, uint32(mode))
	}
}

func capNode(minor int) string { return fmt.Sprintf("dev/nvidia-caps/nvidia-cap%d", minor) }

func (g GPU) migDir() string {
	return fmt.Sprintf("proc/driver/nvidia/capabilities/gpu%d/mig", g.Minor)
}

// capabilities writes those that a machine has without any instance.
func (d *Driver) capabilities(t *tree) {
	const dir = "proc/driver/nvidia/capabilities/"
	t.text("proc/driver/nvidia-caps/mig-minors", "%s", migMinors())
	t.text("proc/driver/nvidia-caps/nvlink-minors", "fabric-mgmt %d\n", capFabric)
	t.text("proc/driver/nvidia-caps/sys-minors", "fabric-imex-mgmt %d\n", capIMEX)
	d.capability(t, "proc/driver/nvidia-nvlink/capabilities/fabric-mgmt", capFabric, modeRoot, false)
	d.capability(t, dir+"mig/config", capMIGConfig, modeRoot, true)
	d.capability(t, dir+"mig/monitor", capMIGMonitor, modeAll, true)
	d.capability(t, dir+"fabric-imex-mgmt", capIMEX, modeRoot, false)
	for _, g := range d.GPUs {
		if d.hw.mig {
			t.dir(g.migDir())
		}
	}
}

// instance writes an instance and the GPU instance that it is in.
func (d *Driver) instance(t *tree, g GPU, in Instance) {
	gi := fmt.Sprintf("%s/gi%d", g.migDir(), in.GI)
	d.capability(t, gi+"/access", g.AccessMinor(Instance{in.GI, NoCI}), modeAll, true)
	if in.CI != NoCI {
		d.capability(t, fmt.Sprintf("%s/ci%d/access", gi, in.CI), g.AccessMinor(in), modeAll, true)
	}
}

// AddInstance makes a MIG instance on the GPU in place i, with its GPU instance if that is
// missing, as the driver shows it once NVML has made it.
func (d *Driver) AddInstance(i int, in Instance) error {
	if err := in.check(); err != nil {
		return err
	}
	if !d.hw.mig || i < 0 || i >= len(d.GPUs) {
		return fmt.Errorf("fake driver: GPU %d has no MIG: %w", i, errdefs.ErrInvalidArgument)
	}
	t := &tree{root: d.Root}
	d.instance(t, d.GPUs[i], in)
	return t.err
}

// RemoveInstance removes a compute instance, or with [NoCI] a GPU instance and all in it. The
// files of /proc go; the nodes stay, as they do on a real machine.
func (d *Driver) RemoveInstance(i int, in Instance) error {
	if i < 0 || i >= len(d.GPUs) || in.check() != nil {
		return fmt.Errorf("fake driver: GPU %d, instance %v: %w", i, in, errdefs.ErrInvalidArgument)
	}
	path := fmt.Sprintf("%s/gi%d", d.GPUs[i].migDir(), in.GI)
	if in.CI != NoCI {
		path = fmt.Sprintf("%s/ci%d", path, in.CI)
	}
	full := filepath.Join(d.Root, path)
	if _, err := os.Stat(full); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("fake driver: GPU %d has no instance %v: %w", i, in, errdefs.ErrNotFound)
	}
	return os.RemoveAll(full)
}
