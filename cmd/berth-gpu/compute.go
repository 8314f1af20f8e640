// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"fmt"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// compute is a compute instance: a MIG device.
type compute struct {
	id     int
	uuid   string
	handle nvml.ComputeInstance
}

// computes lists the compute instances of a GPU instance. If that was destroyed meanwhile, or says so,
// the error is one that gone knows.
func (g *slicedGPU) computes(in instance) (out []compute, _ *wire.Error) {
	last, any := (*wire.Error)(nil), false
	for enum := range nvml.COMPUTE_INSTANCE_PROFILE_COUNT {
		info, failed := g.computeProfile(in, enum)
		if failed != nil && (absent(failed) || failed.Code == "ERROR_INVALID_ARGUMENT") {
			last = failed
			continue
		}
		var handles []nvml.ComputeInstance
		if failed == nil {
			any = true
			handles, failed = get(g.lib, "nvmlGpuInstanceGetComputeInstances", func() ([]nvml.ComputeInstance, nvml.Return) {
				return in.handle.GetComputeInstances(info)
			})
		}
		for i := 0; i < len(handles) && failed == nil; i++ {
			var c compute
			c, failed = g.describeCompute(handles[i])
			out = append(out, c)
		}
		if failed != nil {
			return nil, failed
		}
	}
	if !any { // each GPU instance has one profile at least, that which is as large
		return nil, last
	}
	return out, nil
}

// computeProfile is one that the GPU instance may lack.
func (g *slicedGPU) computeProfile(in instance, enum int) (*nvml.ComputeInstanceProfileInfo, *wire.Error) {
	info, failed := get(g.lib, "nvmlGpuInstanceGetComputeInstanceProfileInfo", func() (nvml.ComputeInstanceProfileInfo, nvml.Return) {
		return in.handle.GetComputeInstanceProfileInfo(enum, nvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
	})
	return &info, failed
}

// describeCompute takes the UUID from the instance's own device: no walk over all MIG devices.
func (g *slicedGPU) describeCompute(h nvml.ComputeInstance) (compute, *wire.Error) {
	info, failed := get(g.lib, "nvmlComputeInstanceGetInfo_v2", h.GetInfo)
	if failed != nil {
		return compute{}, failed
	}
	uuid, failed := get(g.lib, "nvmlDeviceGetUUID", info.Device.GetUUID)
	return compute{id: int(info.Id), uuid: uuid, handle: h}, failed
}

// wholeCompute is the profile of a compute instance as large as its GPU instance.
func (g *slicedGPU) wholeCompute(in instance, p mig.Profile) (*nvml.ComputeInstanceProfileInfo, *wire.Error) {
	for enum := range nvml.COMPUTE_INSTANCE_PROFILE_COUNT {
		info, failed := g.computeProfile(in, enum)
		if failed != nil && !absent(failed) && failed.Code != "ERROR_INVALID_ARGUMENT" {
			return nil, failed
		}
		if failed == nil && int(info.SliceCount) == p.Slices {
			return info, nil
		}
	}
	return nil, &wire.Error{Code: "ERROR_NOT_SUPPORTED", Symbol: "nvmlGpuInstanceGetComputeInstanceProfileInfo",
		Message: fmt.Sprintf("profile %s has no compute instance of all its %d slices", p.Name, p.Slices)}
}

func (g *slicedGPU) createCompute(in instance, info *nvml.ComputeInstanceProfileInfo) (compute, *wire.Error) {
	h, failed := get(g.lib, "nvmlGpuInstanceCreateComputeInstance", func() (nvml.ComputeInstance, nvml.Return) {
		return in.handle.CreateComputeInstance(info)
	})
	if failed != nil {
		return compute{}, failed
	}
	return g.describeCompute(h)
}

// create makes a GPU instance at a place.
func (g *slicedGPU) create(p mig.Profile, at mig.Placement) (nvml.GpuInstance, *wire.Error) {
	return get(g.lib, "nvmlDeviceCreateGpuInstanceWithPlacement", func() (nvml.GpuInstance, nvml.Return) {
		return g.handle.CreateGpuInstanceWithPlacement(profileInfo(p), &nvml.GpuInstancePlacement{Start: uint32(at.Start), Size: uint32(at.Size)})
	})
}

// empty destroys the compute instance of that UUID in an instance, and gives the instance as it is then; nil
// if there is none any more. Handles and ids are given anew, and between two calls anybody may do
// anything: what is there is looked at just before each, and if that is not mine any more nothing is
// done. That something is gone is believed of a list alone, not of an error that may mean it.
func (g *slicedGPU) empty(gi int, uuid string, mine func(ledger.Live) bool) (*occupant, *wire.Error) {
	in, failed := g.find(gi, mine)
	if failed != nil || in == nil {
		return nil, failed
	}
	i := slices.IndexFunc(in.computes, func(c compute) bool { return c.uuid == uuid })
	if i < 0 {
		return in, nil
	}
	refused := g.lib.call("nvmlComputeInstanceDestroy", in.computes[i].handle.Destroy)
	if refused != nil && !gone(refused) {
		return nil, refused
	}
	in, failed = g.find(gi, mine)
	if refused != nil && in != nil && slices.ContainsFunc(in.computes, func(c compute) bool { return c.uuid == uuid }) {
		return nil, refused
	}
	return in, failed
}

// destroy destroys an instance with the compute instance of that UUID; see empty. Another compute
// instance in it keeps the driver from it.
func (g *slicedGPU) destroy(gi int, uuid string, mine func(ledger.Live) bool) *wire.Error {
	in, failed := g.empty(gi, uuid, mine)
	if failed != nil || in == nil {
		return failed
	}
	refused := g.lib.call("nvmlGpuInstanceDestroy", in.handle.Destroy)
	if refused != nil && gone(refused) {
		if in, failed = g.find(gi, mine); failed != nil || in == nil {
			return failed
		}
	}
	return refused
}

// find is the GPU instance of that id; nil if there is none, or not mine.
func (g *slicedGPU) find(gi int, mine func(ledger.Live) bool) (in *occupant, failed *wire.Error) {
	for range vanishing {
		var all []instance
		all, failed = g.instances()
		i := slices.IndexFunc(all, func(in instance) bool { return in.GI == gi })
		if i < 0 {
			return nil, failed
		}
		in = &occupant{instance: all[i]}
		if in.computes, failed = g.computes(in.instance); failed == nil || !gone(failed) {
			break
		}
	}
	if failed != nil || !mine(in.live()) {
		return nil, failed
	}
	return in, nil
}
