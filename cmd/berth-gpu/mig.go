// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	wire "berth/gpu/nvml"
)

// readMIG reads the mode, and the MIG devices that there are.
func (d *device) readMIG() {
	mode, ok := may(d, "nvmlDeviceGetMigMode", func() (int, nvml.Return) {
		current, _, r := d.handle.GetMigMode()
		return current, r
	})
	if !ok {
		return
	}
	d.MIGMode = wire.MIGDisabled
	if mode != nvml.DEVICE_MIG_ENABLE {
		return
	}
	d.MIGMode = wire.MIGEnabled
	count, _ := must(d, "nvmlDeviceGetMaxMigDeviceCount", d.handle.GetMaxMigDeviceCount)
	for i := range count {
		m, failed := d.readMIGDevice(i)
		if failed == nil {
			d.MIG = append(d.MIG, m)
		} else if !gone(failed) {
			d.note(failed)
		}
	}
}

// gone says that there is no MIG device, or no longer: indices may have gaps, and another program
// may destroy one while it is read. Neither is an error of the GPU.
func gone(failed *wire.Error) bool {
	return failed.Code == "ERROR_NOT_FOUND" || failed.Code == "ERROR_INVALID_ARGUMENT"
}

func (d *device) readMIGDevice(index int) (wire.MIG, *wire.Error) {
	m := wire.MIG{Index: index}
	handle, failed := get(d.lib, "nvmlDeviceGetMigDeviceHandleByIndex", func() (nvml.Device, nvml.Return) {
		return d.handle.GetMigDeviceHandleByIndex(index)
	})
	if failed == nil {
		m.UUID, failed = get(d.lib, "nvmlDeviceGetUUID", handle.GetUUID)
	}
	if failed == nil {
		m.GI, failed = get(d.lib, "nvmlDeviceGetGpuInstanceId", handle.GetGpuInstanceId)
	}
	if failed == nil {
		m.CI, failed = get(d.lib, "nvmlDeviceGetComputeInstanceId", handle.GetComputeInstanceId)
	}
	if failed != nil {
		return m, failed
	}
	// "NVIDIA H200 MIG 1g.18gb"
	name, _ := get(d.lib, "nvmlDeviceGetName", handle.GetName)
	_, m.Profile, _ = strings.Cut(name, " MIG ")
	return m, nil
}
