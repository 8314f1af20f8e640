// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// compute is a compute instance: a MIG device.
type compute struct {
	id     int
	uuid   string
	handle nvml.ComputeInstance
}

// computes lists the compute instances of a GPU instance.
func (g *slicedGPU) computes(in instance) ([]compute, *wire.Error) {
	var out []compute
	for enum := range nvml.COMPUTE_INSTANCE_PROFILE_COUNT {
		info, failed := g.computeProfile(in, enum)
		if failed == nil && info == nil {
			continue
		}
		var handles []nvml.ComputeInstance
		if failed == nil {
			handles, failed = get(g.lib, "nvmlGpuInstanceGetComputeInstances", func() ([]nvml.ComputeInstance, nvml.Return) {
				return in.handle.GetComputeInstances(info)
			})
		}
		if failed != nil && gone(failed) {
			continue
		}
		if failed != nil {
			return nil, failed
		}
		for _, h := range handles {
			c, failed := g.describeCompute(h)
			if failed != nil && !gone(failed) {
				return nil, failed
			}
			if failed == nil {
				out = append(out, c)
			}
		}
	}
	return out, nil
}

// computeProfile is nil if the GPU instance does not have the profile.
func (g *slicedGPU) computeProfile(in instance, enum int) (*nvml.ComputeInstanceProfileInfo, *wire.Error) {
	info, failed := get(g.lib, "nvmlGpuInstanceGetComputeInstanceProfileInfo", func() (nvml.ComputeInstanceProfileInfo, nvml.Return) {
		return in.handle.GetComputeInstanceProfileInfo(enum, nvml.COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED)
	})
	if failed != nil && (absent(failed) || gone(failed)) {
		return nil, nil
	}
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

// createCompute makes one compute instance as large as its GPU instance.
func (g *slicedGPU) createCompute(in instance, p mig.Profile) (compute, *wire.Error) {
	for enum := range nvml.COMPUTE_INSTANCE_PROFILE_COUNT {
		info, failed := g.computeProfile(in, enum)
		if failed != nil {
			return compute{}, failed
		}
		if info == nil || int(info.SliceCount) != p.Slices {
			continue
		}
		h, failed := get(g.lib, "nvmlGpuInstanceCreateComputeInstance", func() (nvml.ComputeInstance, nvml.Return) {
			return in.handle.CreateComputeInstance(info)
		})
		if failed != nil {
			return compute{}, failed
		}
		return g.describeCompute(h)
	}
	return compute{}, &wire.Error{Code: "ERROR_NOT_SUPPORTED", Symbol: "nvmlGpuInstanceGetComputeInstanceProfileInfo",
		Message: fmt.Sprintf("profile %s has no compute instance of all its %d slices", p.Name, p.Slices)}
}

// create makes a GPU instance at a place.
func (g *slicedGPU) create(p mig.Profile, at mig.Placement) (nvml.GpuInstance, *wire.Error) {
	return get(g.lib, "nvmlDeviceCreateGpuInstanceWithPlacement", func() (nvml.GpuInstance, nvml.Return) {
		return g.handle.CreateGpuInstanceWithPlacement(profileInfo(p), &nvml.GpuInstancePlacement{Start: uint32(at.Start), Size: uint32(at.Size)})
	})
}

// empty destroys the compute instances in an instance.
func (g *slicedGPU) empty(in instance) *wire.Error {
	computes, failed := g.computes(in)
	if failed != nil {
		return failed
	}
	for _, c := range computes {
		if failed := g.lib.call("nvmlComputeInstanceDestroy", c.handle.Destroy); failed != nil && !gone(failed) {
			return failed
		}
	}
	return nil
}

// destroy destroys an instance with all that is in it. What is gone already is no error.
func (g *slicedGPU) destroy(in instance) *wire.Error {
	if failed := g.empty(in); failed != nil {
		return failed
	}
	if failed := g.lib.call("nvmlGpuInstanceDestroy", in.handle.Destroy); failed != nil && !gone(failed) {
		return failed
	}
	return nil
}
