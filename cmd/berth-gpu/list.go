// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	wire "berth/gpu/nvml"
)

// list walks the GPUs by index: a look-up by UUID takes the driver seconds when it is busy.
func list(l *library) (any, error) {
	answer := wire.List{Devices: []wire.Device{}}
	var failed *wire.Error
	if answer.DriverVersion, failed = get(l, "nvmlSystemGetDriverVersion", l.SystemGetDriverVersion); failed != nil {
		return nil, failed
	}
	// The other versions may be missing: without them the list is as good.
	answer.NVMLVersion, _ = get(l, "nvmlSystemGetNVMLVersion", l.SystemGetNVMLVersion)
	if cuda, failed := get(l, "nvmlSystemGetCudaDriverVersion", l.SystemGetCudaDriverVersion); failed == nil {
		answer.CUDAVersion = fmt.Sprintf("%d.%d", cuda/1000, cuda%1000/10)
	}
	count, failed := get(l, "nvmlDeviceGetCount_v2|nvmlDeviceGetCount", l.DeviceGetCount)
	if failed != nil {
		return nil, failed
	}
	for i := range count {
		d := device{lib: l, Device: wire.Device{Index: i, Minor: -1}}
		d.read()
		if d.Error != nil && d.Error.Code == "ERROR_FUNCTION_NOT_FOUND" {
			return nil, d.Error // the driver has no such question: it is so for all
		}
		answer.Devices = append(answer.Devices, d.Device)
	}
	return answer, nil
}

// device is a GPU that is being read.
type device struct {
	wire.Device
	lib    *library
	handle nvml.Device
}

// must makes a call whose failure is the device's error, may one that a GPU or a driver need not
// have. Both say whether it succeeded.
func must[T any](d *device, symbols string, f func() (T, nvml.Return)) (T, bool) {
	value, failed := get(d.lib, symbols, f)
	d.note(failed)
	return value, failed == nil
}

func may[T any](d *device, symbols string, f func() (T, nvml.Return)) (T, bool) {
	value, failed := get(d.lib, symbols, f)
	if failed != nil && !absent(failed) {
		d.note(failed)
	}
	return value, failed == nil
}

func (d *device) note(failed *wire.Error) {
	if d.Error == nil {
		d.Error = failed
	}
}

func (d *device) read() {
	var ok bool
	d.handle, ok = must(d, "nvmlDeviceGetHandleByIndex_v2|nvmlDeviceGetHandleByIndex", func() (nvml.Device, nvml.Return) {
		return d.lib.DeviceGetHandleByIndex(d.Index)
	})
	if ok {
		d.identify()
		d.describe()
		d.readMIG()
	}
}

func (d *device) identify() {
	d.UUID, _ = must(d, "nvmlDeviceGetUUID", d.handle.GetUUID)
	if pci, ok := must(d, "nvmlDeviceGetPciInfo_v3|nvmlDeviceGetPciInfo_v2|nvmlDeviceGetPciInfo", d.handle.GetPciInfo); ok {
		d.BusID = busID(pci)
	}
	if minor, ok := must(d, "nvmlDeviceGetMinorNumber", d.handle.GetMinorNumber); ok {
		d.Minor = minor
	}
}

// busID is as the kernel module names its folders (nv-procfs.c): NVML has an eight-digit domain
// in capitals. Of its two texts the short one is in every version of the structure.
func busID(pci nvml.PciInfo) string {
	function := byte('0')
	for i, c := range pci.BusIdLegacy[1:] {
		if pci.BusIdLegacy[i] == '.' {
			function = byte(c)
		}
	}
	return fmt.Sprintf("%04x:%02x:%02x.%c", pci.Domain, pci.Bus, pci.Device, function)
}

func (d *device) describe() {
	d.Name, _ = may(d, "nvmlDeviceGetName", d.handle.GetName)
	if brand, ok := may(d, "nvmlDeviceGetBrand", d.handle.GetBrand); ok {
		d.Brand = brands[brand]
	}
	if arch, ok := may(d, "nvmlDeviceGetArchitecture", d.handle.GetArchitecture); ok {
		d.Architecture = architectures[arch]
	}
	capability, _ := may(d, "nvmlDeviceGetCudaComputeCapability", func() (string, nvml.Return) {
		major, minor, r := d.handle.GetCudaComputeCapability()
		return fmt.Sprintf("%d.%d", major, minor), r
	})
	d.ComputeCapability = capability
	if mode, ok := may(d, "nvmlDeviceGetComputeMode", d.handle.GetComputeMode); ok {
		d.ComputeMode = computeModes[mode]
	}
	memory, _ := may(d, "nvmlDeviceGetMemoryInfo", d.handle.GetMemoryInfo)
	d.Memory = memory.Total
}
