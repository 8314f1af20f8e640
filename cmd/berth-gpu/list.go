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
	var cuda, count int
	failed := l.call("nvmlSystemGetDriverVersion", func() (r nvml.Return) {
		answer.DriverVersion, r = l.SystemGetDriverVersion()
		return r
	})
	if failed != nil {
		return nil, failed
	}
	// The versions are for people: without them the list is as good.
	_ = l.call("nvmlSystemGetNVMLVersion", func() (r nvml.Return) {
		answer.NVMLVersion, r = l.SystemGetNVMLVersion()
		return r
	})
	failed = l.call("nvmlSystemGetCudaDriverVersion", func() (r nvml.Return) {
		cuda, r = l.SystemGetCudaDriverVersion()
		return r
	})
	if failed == nil {
		answer.CUDAVersion = fmt.Sprintf("%d.%d", cuda/1000, cuda%1000/10)
	}
	failed = l.call("nvmlDeviceGetCount_v2|nvmlDeviceGetCount", func() (r nvml.Return) {
		count, r = l.DeviceGetCount()
		return r
	})
	if failed != nil {
		return nil, failed
	}
	for i := range count {
		d := device{lib: l, Device: wire.Device{Index: i, Minor: -1}}
		d.read()
		if d.Error != nil && d.Error.Code == "ERROR_FUNCTION_NOT_FOUND" {
			return nil, d.Error // no device of this driver can answer
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

func (d *device) read() {
	ok := d.must("nvmlDeviceGetHandleByIndex_v2|nvmlDeviceGetHandleByIndex", func() (r nvml.Return) {
		d.handle, r = d.lib.DeviceGetHandleByIndex(d.Index)
		return r
	})
	if !ok {
		return
	}
	d.identify()
	d.describe()
	d.readMIG()
}

// must makes a call whose failure is the device's error, may one that a GPU or a driver need not
// have. Both say whether it succeeded.
func (d *device) must(symbols string, f func() nvml.Return) bool {
	failed := d.lib.call(symbols, f)
	if failed != nil && d.Error == nil {
		d.Error = failed
	}
	return failed == nil
}

func (d *device) may(symbols string, f func() nvml.Return) bool {
	failed := d.lib.call(symbols, f)
	if failed != nil && d.Error == nil && !absent(failed) {
		d.Error = failed
	}
	return failed == nil
}

func (d *device) identify() {
	var pci nvml.PciInfo
	var minor int
	d.must("nvmlDeviceGetUUID", func() (r nvml.Return) {
		d.UUID, r = d.handle.GetUUID()
		return r
	})
	if d.must("nvmlDeviceGetPciInfo_v3|nvmlDeviceGetPciInfo_v2|nvmlDeviceGetPciInfo", func() (r nvml.Return) {
		pci, r = d.handle.GetPciInfo()
		return r
	}) {
		d.BusID = busID(pci)
	}
	if d.must("nvmlDeviceGetMinorNumber", func() (r nvml.Return) {
		minor, r = d.handle.GetMinorNumber()
		return r
	}) {
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
	d.may("nvmlDeviceGetName", func() (r nvml.Return) {
		d.Name, r = d.handle.GetName()
		return r
	})
	d.may("nvmlDeviceGetBrand", func() (r nvml.Return) {
		brand, r := d.handle.GetBrand()
		d.Brand = brands[brand]
		return r
	})
	d.may("nvmlDeviceGetArchitecture", func() (r nvml.Return) {
		arch, r := d.handle.GetArchitecture()
		d.Architecture = architectures[arch]
		return r
	})
	var major, minor int
	if d.may("nvmlDeviceGetCudaComputeCapability", func() (r nvml.Return) {
		major, minor, r = d.handle.GetCudaComputeCapability()
		return r
	}) {
		d.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
	}
	d.may("nvmlDeviceGetMemoryInfo", func() nvml.Return {
		memory, r := d.handle.GetMemoryInfo()
		d.Memory = memory.Total
		return r
	})
}
