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
	var current, count int
	if !d.may("nvmlDeviceGetMigMode", func() (r nvml.Return) {
		current, _, r = d.handle.GetMigMode()
		return r
	}) {
		return
	}
	d.MIGMode = wire.MIGDisabled
	if current != nvml.DEVICE_MIG_ENABLE {
		return
	}
	d.MIGMode = wire.MIGEnabled
	d.must("nvmlDeviceGetMaxMigDeviceCount", func() (r nvml.Return) {
		count, r = d.handle.GetMaxMigDeviceCount()
		return r
	})
	for i := range count {
		d.readMIGDevice(i)
	}
}

// readMIGDevice reads the one at an index, if there is one: indices may have gaps, and another
// program may destroy it in the middle, which is no error of the GPU.
func (d *device) readMIGDevice(index int) {
	m := wire.MIG{Index: index}
	var handle nvml.Device
	var name string
	steps := []struct {
		symbol string
		call   func() nvml.Return
	}{
		{"nvmlDeviceGetMigDeviceHandleByIndex", func() (r nvml.Return) {
			handle, r = d.handle.GetMigDeviceHandleByIndex(index)
			return r
		}},
		{"nvmlDeviceGetUUID", func() (r nvml.Return) { m.UUID, r = handle.GetUUID(); return r }},
		{"nvmlDeviceGetGpuInstanceId", func() (r nvml.Return) { m.GI, r = handle.GetGpuInstanceId(); return r }},
		{"nvmlDeviceGetComputeInstanceId", func() (r nvml.Return) { m.CI, r = handle.GetComputeInstanceId(); return r }},
	}
	for i, step := range steps {
		failed := d.lib.call(step.symbol, step.call)
		if failed == nil {
			continue
		}
		gone := failed.Code == "ERROR_NOT_FOUND" || i > 0 && failed.Code == "ERROR_INVALID_ARGUMENT"
		if !gone && d.Error == nil {
			d.Error = failed
		}
		return
	}
	// "NVIDIA H200 MIG 1g.18gb"
	d.may("nvmlDeviceGetName", func() (r nvml.Return) { name, r = handle.GetName(); return r })
	_, m.Profile, _ = strings.Cut(name, " MIG ")
	d.MIG = append(d.MIG, m)
}
