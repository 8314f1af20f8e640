// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
)

// Inventory is what the driver says about the host, at one moment.
type Inventory struct {
	DriverVersion string `json:"driver_version"`
	// Devices are in the order of the PCI bus, those that the administrator
	// has excluded last. These have Index -1, as NVML counts them apart
	// (nvmlGetExcludedDeviceCount) and gives them no handle.
	Devices []Device `json:"devices"`
	// NVSwitch says that the machine has NVSwitches of its own, with which
	// CUDA waits for the fabric manager.
	NVSwitch bool `json:"nvswitch,omitempty"`

	roots  Roots
	majors map[string]uint32 // of /proc/devices, by name
}

// Discover reads the inventory from /proc. It costs tens of microseconds for
// each GPU and initialises none; one that power management has suspended is
// resumed by the driver. Without a driver the error is errdefs.ErrNotFound; a
// driver without a GPU is no error.
//
// The files are those of kernel-open/nvidia/nv-procfs.c and
// procfs_nvswitch.c in NVIDIA/open-gpu-kernel-modules.
func Discover(r Roots) (*Inventory, error) {
	version := r.proc("driver/nvidia/version")
	b, err := readProc(version)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the NVIDIA driver is not loaded: %s does not exist; install the driver or load it with `modprobe nvidia`: %w",
			version, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read the driver's version: %w", err)
	}
	inv := &Inventory{DriverVersion: parseModuleVersion(b), roots: r}
	if inv.DriverVersion == "" {
		return nil, fmt.Errorf("%s names no version that could be understood: %.128q: %w", version, b, errdefs.ErrFailedPrecondition)
	}
	if b, err = readProc(r.proc("devices")); err != nil {
		return nil, fmt.Errorf("read the device majors: %w", err)
	}
	inv.majors = parseMajors(b)
	if inv.Devices, err = readDevices(r); err != nil {
		return nil, err
	}
	// The directory exists wherever the driver does; switches are in it.
	switches, _ := os.ReadDir(r.proc("driver/nvidia-nvswitch/devices"))
	inv.NVSwitch = len(switches) > 0
	return inv, nil
}

func readDevices(r Roots) ([]Device, error) {
	entries, err := os.ReadDir(r.proc("driver/nvidia/gpus"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the GPUs: %w", err)
	}
	// Names are "dddd:bb:dd.f" in hexadecimal; only the domain grows.
	slices.SortFunc(entries, func(a, b fs.DirEntry) int {
		return cmp.Or(cmp.Compare(len(a.Name()), len(b.Name())), cmp.Compare(a.Name(), b.Name()))
	})
	devices, excluded := []Device{}, []Device(nil)
	for _, e := range entries {
		b, err := readProc(r.proc("driver/nvidia/gpus", e.Name(), "information"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was unplugged since
		}
		if err != nil {
			return nil, fmt.Errorf("read about a GPU: %w", err)
		}
		d := parseInformation(b, e.Name())
		if d.Excluded {
			d.Index = -1
			excluded = append(excluded, d)
			continue
		}
		d.Index, d.MIG = len(devices), readInstances(r, d.Minor)
		devices = append(devices, d)
	}
	return append(devices, excluded...), nil
}

// readInstances lists a GPU's compute instances, by GPU instance and compute
// instance. A GPU instance without a compute instance cannot be used.
func readInstances(r Roots, minor int) []Instance {
	dir := r.proc("driver/nvidia/capabilities", "gpu"+strconv.Itoa(minor), "mig")
	var found []Instance
	gis, _ := os.ReadDir(dir)
	for _, g := range gis {
		gi, ok := numbered(g.Name(), "gi")
		if !ok {
			continue
		}
		cis, _ := os.ReadDir(dir + "/" + g.Name())
		for _, c := range cis {
			if ci, ok := numbered(c.Name(), "ci"); ok {
				found = append(found, Instance{GI: gi, CI: ci})
			}
		}
	}
	slices.SortFunc(found, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.GI, b.GI), cmp.Compare(a.CI, b.CI))
	})
	return found
}
