// SPDX-License-Identifier: Apache-2.0

package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Group is a group of the IOMMU.
type Group struct {
	Number int
	// Major and Minor are those of its device node, /dev/vfio/Number.
	Major, Minor uint32
	// Devices are to be handed over together.
	Devices []Device
}

// Device is a PCI device.
type Device struct {
	Address string // such as 0000:01:00.0
	Path    string // its directory in sysfs, links resolved
}

// dir is where containers have VFIO devices, as the host has them.
const dir = "/dev/vfio/"

// containerDevice is the node by which groups are opened together; it stands for
// no device.
const containerDevice = dir + "vfio"

// Is is true for a device of a container that stands for a device of the host's
// which is to be handed over, or goes with one.
func Is(d specs.LinuxDevice) bool { return d.Type == "c" && strings.HasPrefix(d.Path, dir) }

// Find returns the groups that the VFIO devices among those of a container are,
// each once. sys is where sysfs is.
func Find(sys string, devices []specs.LinuxDevice) ([]Group, error) {
	var groups []Group
	for _, d := range devices {
		if !Is(d) || d.Path == containerDevice {
			continue
		}
		g, err := find(sys, d)
		if err != nil {
			return nil, fmt.Errorf("pass %s (c %d:%d) through to a VM: %w", d.Path, d.Major, d.Minor, err)
		}
		if !slices.ContainsFunc(groups, func(o Group) bool { return o.Number == g.Number }) {
			groups = append(groups, g)
		}
	}
	return groups, nil
}

func find(sys string, d specs.LinuxDevice) (g Group, err error) {
	all, err := os.ReadDir(filepath.Join(sys, "kernel/iommu_groups"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return g, err
	}
	if len(all) == 0 {
		return g, fmt.Errorf("this host has no IOMMU, or it is off: switch it on in the firmware (VT-d, AMD-Vi) and "+
			"on the kernel's command line (intel_iommu=on): %w", errdefs.ErrFailedPrecondition)
	}
	// By its numbers, not by the name that it has in the container.
	node := filepath.Join(sys, "dev/char", fmt.Sprintf("%d:%d", d.Major, d.Minor))
	name, err := linkedTo(node)
	if errors.Is(err, fs.ErrNotExist) {
		return g, fmt.Errorf("the host has no such device: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return g, err
	}
	if kind, err := linkedTo(filepath.Join(node, "subsystem")); err != nil || kind != "vfio" {
		return g, errors.Join(fmt.Errorf("it is %s of the subsystem %q, and no VFIO group: %w", name, kind, errdefs.ErrInvalidArgument), err)
	}
	if g.Number, err = strconv.Atoi(name); err != nil {
		return g, fmt.Errorf("%s is no group of an IOMMU, which alone keeps a device away from the host's memory: %w", name, errdefs.ErrInvalidArgument)
	}
	g.Major, g.Minor = uint32(d.Major), uint32(d.Minor)
	g.Devices, err = devicesOf(filepath.Join(sys, "kernel/iommu_groups", name, "devices"))
	if err == nil && len(g.Devices) == 0 {
		err = fmt.Errorf("group %d has no PCI device: %w", g.Number, errdefs.ErrFailedPrecondition)
	}
	return g, err
}

// devicesOf are those of a group, each bound to a driver that hands it over.
func devicesOf(group string) (devices []Device, err error) {
	entries, err := os.ReadDir(group)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		path, err := filepath.EvalSymlinks(filepath.Join(group, e.Name()))
		if err != nil {
			return nil, err
		}
		if !isAddress(e.Name()) {
			return nil, fmt.Errorf("%s in its group is no PCI device: %w", e.Name(), errdefs.ErrFailedPrecondition)
		}
		class, err := os.ReadFile(filepath.Join(path, "class"))
		if err != nil {
			return nil, err
		}
		// A bridge stays the host's, and does not keep the group from being used
		// (vfio_group_viable, drivers/vfio).
		if strings.HasPrefix(string(class), "0x0604") {
			continue
		}
		driver, err := linkedTo(filepath.Join(path, "driver"))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			driver = "no driver"
		case err != nil:
			return nil, err
		case driver == "vfio-pci", strings.HasSuffix(driver, "_vfio_pci"), strings.HasSuffix(driver, "-vfio-pci"): // variants for one vendor
			devices = append(devices, Device{Address: e.Name(), Path: path})
			continue
		}
		return nil, fmt.Errorf("%s of its group is bound to %s; bind every device of the group to vfio-pci: %w",
			e.Name(), driver, errdefs.ErrFailedPrecondition)
	}
	return devices, nil
}

// linkedTo is the last element of what a link leads to.
func linkedTo(link string) (string, error) {
	target, err := os.Readlink(link)
	return filepath.Base(target), err
}

// isAddress is true for domain:bus:device.function, in hexadecimal digits.
func isAddress(s string) bool {
	const shape = "hhhh:hh:hh.h"
	at := strings.IndexByte(s, ':')
	if at > 4 { // domains above ffff, of the kernel's own making
		s = s[at-4:]
	}
	if len(s) != len(shape) {
		return false
	}
	for i := range s {
		if digit := strings.IndexByte("0123456789abcdef", s[i]) >= 0; shape[i] == 'h' && !digit || shape[i] != 'h' && s[i] != shape[i] {
			return false
		}
	}
	return true
}
