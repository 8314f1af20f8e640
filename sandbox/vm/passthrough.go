// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"strconv"
	"strings"

	"berth/sandbox/vm/jail"
)

// Devices that are passed through are there from the start: the guest gives
// them their places in its address space while it boots, however large they
// are, and pins all of its memory for them.
//
// QEMU 7.2 opens the groups by their names itself, and finds the one of a device
// in its directory in sysfs; both are put into its jail.

// pcie is whether the machine has a PCI Express bus.
func (c *Config) pcie() string {
	if len(c.VFIO) > 0 || c.hasPorts() {
		return "on"
	}
	return "off"
}

// vfioArguments have each device behind a root port of its own, as a slot of a
// board is. There are no I/O ports on a microvm's bus.
func (c *Config) vfioArguments() (args []string) {
	n := 0
	if c.hasPorts() {
		n = ports
	}
	for _, g := range c.VFIO {
		for _, d := range g.Devices {
			n++
			args = append(args,
				"-device", fmt.Sprintf("pcie-root-port,id=slot%d,bus=pcie.0,chassis=%d,slot=%d,io-reserve=0", n, n, n),
				"-device", fmt.Sprintf("vfio-pci,id=vfio%d,bus=slot%d,sysfsdev=%s", n, n, escape(d.Path)))
		}
	}
	return args
}

// escape doubles commas, which separate QEMU's options.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

func (c *Config) vfioDevices() (devices []jail.Device) {
	for i, g := range c.VFIO {
		if i == 0 { // misc, VFIO_MINOR (include/linux/miscdevice.h)
			devices = append(devices, jail.Device{Path: "/dev/vfio/vfio", Major: 10, Minor: 196})
		}
		devices = append(devices, jail.Device{Path: "/dev/vfio/" + strconv.Itoa(g.Number), Major: g.Major, Minor: g.Minor})
	}
	return devices
}

func (c *Config) vfioShown() (paths []string) {
	for _, g := range c.VFIO {
		for _, d := range g.Devices {
			paths = append(paths, d.Path)
		}
	}
	return paths
}

// vfioMargin is for what of a guest's memory is not its RAM, firmware and the
// like, which is pinned too.
const vfioMargin = 64 << 20

// vfioLocked is how much QEMU has to pin: all of the guest's memory, for each
// group at worst, where the IOMMU cannot have them together.
func (c *Config) vfioLocked() uint64 {
	return uint64(len(c.VFIO)) * (uint64(c.MemoryMiB)<<20 + vfioMargin)
}
