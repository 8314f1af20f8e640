// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// slicedGPU is a GPU that can do MIG, as a transaction uses it.
type slicedGPU struct {
	mig.GPU
	lib    *library
	handle nvml.Device
	minor  int
	on     bool // MIG mode is on
}

// slicedGPUs reads all GPUs that can do MIG, without their profiles. One that cannot be asked is
// no reason against the others: it comes back as an error.
func slicedGPUs(lib *library) (gpus []*slicedGPU, broken []*wire.Error, failed *wire.Error) {
	count, failed := get(lib, "nvmlDeviceGetCount_v2|nvmlDeviceGetCount", lib.DeviceGetCount)
	if failed != nil {
		return nil, nil, failed
	}
	for i := range count {
		d := device{lib: lib, Device: wire.Device{Index: i, Minor: -1}}
		var ok bool
		d.handle, ok = must(&d, "nvmlDeviceGetHandleByIndex_v2|nvmlDeviceGetHandleByIndex", func() (nvml.Device, nvml.Return) {
			return lib.DeviceGetHandleByIndex(i)
		})
		g := &slicedGPU{lib: lib, handle: d.handle}
		if ok {
			if ok = g.readMode(&d); ok {
				d.identify()
			}
		}
		if d.Error != nil {
			broken = append(broken, d.Error)
		} else if ok {
			g.GPU, g.minor = mig.GPU{BusID: d.BusID, UUID: d.UUID, Index: i}, d.Minor
			gpus = append(gpus, g)
		}
	}
	return gpus, broken, nil
}

// readMode says whether the GPU can do MIG.
func (g *slicedGPU) readMode(d *device) bool {
	mode, ok := may(d, "nvmlDeviceGetMigMode", func() (int, nvml.Return) {
		current, _, r := g.handle.GetMigMode()
		return current, r
	})
	g.on = mode == nvml.DEVICE_MIG_ENABLE
	return ok
}

// read reads what can be made on the GPU, and what is there.
func (g *slicedGPU) read() *wire.Error {
	for enum := range nvml.GPU_INSTANCE_PROFILE_COUNT {
		if len(g.Profiles) > 0 && enum == 0 {
			break // profiles do not change
		}
		info, failed := get(g.lib, "nvmlDeviceGetGpuInstanceProfileInfoV", g.handle.GetGpuInstanceProfileInfoV(enum).V2)
		if failed != nil && (absent(failed) || failed.Code == "ERROR_INVALID_ARGUMENT") {
			continue
		}
		if failed != nil {
			return failed
		}
		p := mig.Profile{ID: int(info.Id), Enum: enum, Name: strings.TrimPrefix(text(info.Name[:]), "MIG "),
			Slices: int(info.SliceCount), Memory: info.MemorySizeMB << 20, Max: int(info.InstanceCount)}
		places, failed := get(g.lib, "nvmlDeviceGetGpuInstancePossiblePlacements_v2|nvmlDeviceGetGpuInstancePossiblePlacements",
			func() ([]nvml.GpuInstancePlacement, nvml.Return) {
				return g.handle.GetGpuInstancePossiblePlacements(profileInfo(p))
			})
		if failed != nil {
			return failed
		}
		for _, at := range places {
			p.Placements = append(p.Placements, mig.Placement{Start: int(at.Start), Size: int(at.Size)})
		}
		g.Profiles = append(g.Profiles, p)
	}
	live, failed := g.instances()
	g.Instances = nil
	for _, in := range live {
		g.Instances = append(g.Instances, in.Instance)
	}
	return failed
}

func text(c []int8) string {
	var b strings.Builder
	for _, c := range c {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// profileInfo is as much of it as the calls that take one use.
func profileInfo(p mig.Profile) *nvml.GpuInstanceProfileInfo {
	return &nvml.GpuInstanceProfileInfo{Id: uint32(p.ID), InstanceCount: uint32(p.Max)}
}

// instance is a live GPU instance.
type instance struct {
	mig.Instance
	handle nvml.GpuInstance
}

// instances lists them. One that is destroyed meanwhile is not there.
func (g *slicedGPU) instances() ([]instance, *wire.Error) {
	var out []instance
	seen := make(map[int]bool)
	for _, p := range g.Profiles {
		handles, failed := get(g.lib, "nvmlDeviceGetGpuInstances", func() ([]nvml.GpuInstance, nvml.Return) {
			return g.handle.GetGpuInstances(profileInfo(p))
		})
		if failed != nil && failed.Code != "ERROR_NOT_SUPPORTED" { // by a profile, or with MIG off
			return nil, failed
		}
		for _, h := range handles {
			in, failed := g.describe(h)
			if failed != nil && !gone(failed) {
				return nil, failed
			}
			if failed == nil && !seen[in.GI] {
				seen[in.GI] = true
				out = append(out, in)
			}
		}
	}
	return out, nil
}

// describe asks an instance what it is: its id and place are never concluded.
func (g *slicedGPU) describe(h nvml.GpuInstance) (instance, *wire.Error) {
	info, failed := get(g.lib, "nvmlGpuInstanceGetInfo", h.GetInfo)
	return instance{handle: h, Instance: mig.Instance{GI: int(info.Id), Profile: int(info.ProfileId),
		Placement: mig.Placement{Start: int(info.Placement.Start), Size: int(info.Placement.Size)}}}, failed
}

// live is what the ledger's records are held against, in the order of the instances.
func (g *slicedGPU) live() ([]instance, []ledger.Live, *wire.Error) {
	instances, failed := g.instances()
	if failed != nil {
		return nil, nil, failed
	}
	live := make([]ledger.Live, len(instances))
	for i, in := range instances {
		live[i] = ledger.Live{GI: in.GI, Profile: in.Profile, Place: place(in.Placement)}
		computes, failed := g.computes(in)
		if failed != nil {
			return nil, nil, failed
		}
		for _, c := range computes {
			live[i].MIG = append(live[i].MIG, c.uuid)
		}
	}
	return instances, live, nil
}

func place(p mig.Placement) wire.Place { return wire.Place{Start: p.Start, Size: p.Size} }
