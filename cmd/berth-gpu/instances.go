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

// vanishing is how often an instance may vanish between the list and the question what it is, before
// that answer is taken for an error: a GPU has seven.
const vanishing = 8

// read reads what can be made on the GPU, and what is there.
func (g *slicedGPU) read() *wire.Error {
	d := device{lib: g.lib}
	if g.on, _ = g.readMode(&d); d.Error != nil {
		return d.Error
	}
	if g.Profiles == nil { // they do not change
		profiles, failed := g.profiles()
		if failed != nil {
			return failed
		}
		g.Profiles = profiles
	}
	live, failed := g.instances()
	g.Instances = nil
	for _, in := range live {
		g.Instances = append(g.Instances, in.Instance)
	}
	return failed
}

// profiles are all that the GPU has, or an error: instances are listed by them, so one that is left out
// would hide those that are of it.
func (g *slicedGPU) profiles() (out []mig.Profile, _ *wire.Error) {
	last := &wire.Error{Code: "ERROR_NOT_SUPPORTED", Symbol: "nvmlDeviceGetGpuInstanceProfileInfoV", Message: "the GPU has no MIG profile"}
	for enum := range nvml.GPU_INSTANCE_PROFILE_COUNT {
		info, failed := get(g.lib, "nvmlDeviceGetGpuInstanceProfileInfoV", g.handle.GetGpuInstanceProfileInfoV(enum).V2)
		if failed != nil && (absent(failed) || failed.Code == "ERROR_INVALID_ARGUMENT") { // a profile of other GPUs, or of a newer driver
			last = failed
			continue
		}
		if failed != nil {
			return nil, failed
		}
		p := mig.Profile{ID: int(info.Id), Enum: enum, Name: strings.TrimPrefix(text(info.Name[:]), "MIG "),
			Slices: int(info.SliceCount), Memory: info.MemorySizeMB << 20, Max: int(info.InstanceCount)}
		places, failed := get(g.lib, "nvmlDeviceGetGpuInstancePossiblePlacements_v2|nvmlDeviceGetGpuInstancePossiblePlacements",
			func() ([]nvml.GpuInstancePlacement, nvml.Return) {
				return g.handle.GetGpuInstancePossiblePlacements(profileInfo(p))
			})
		if failed != nil {
			return nil, failed
		}
		for _, at := range places {
			p.Placements = append(p.Placements, mig.Placement{Start: int(at.Start), Size: int(at.Size)})
		}
		out = append(out, p)
	}
	if out == nil {
		return nil, last
	}
	return out, nil
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

// instances lists them. One that is destroyed meanwhile is not there; what is there and does not answer
// is an error.
func (g *slicedGPU) instances() (out []instance, failed *wire.Error) {
	for range vanishing {
		if out, failed = g.listInstances(); failed == nil || !gone(failed) {
			return out, failed
		}
	}
	return nil, failed
}

func (g *slicedGPU) listInstances() ([]instance, *wire.Error) {
	if !g.on {
		return nil, nil
	}
	var out []instance
	seen := make(map[int]bool)
	for _, p := range g.Profiles {
		handles, failed := get(g.lib, "nvmlDeviceGetGpuInstances", func() ([]nvml.GpuInstance, nvml.Return) {
			return g.handle.GetGpuInstances(profileInfo(p))
		})
		if failed != nil {
			return nil, failed
		}
		for _, h := range handles {
			in, failed := g.describe(h)
			if failed != nil {
				return nil, failed
			}
			if !seen[in.GI] {
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

// occupant is a live GPU instance with what is in it.
type occupant struct {
	instance
	computes []compute
}

// live is it as the ledger's records are held against it.
func (o occupant) live() ledger.Live {
	l := ledger.Live{GI: o.GI, Profile: o.Profile, Place: place(o.Placement)}
	for _, c := range o.computes {
		l.MIG = append(l.MIG, c.uuid)
	}
	return l
}

// occupants are all instances of the GPU with what is in them.
func (g *slicedGPU) occupants() (out []occupant, failed *wire.Error) {
	for range vanishing {
		if out, failed = g.listOccupants(); failed == nil || !gone(failed) {
			return out, failed
		}
	}
	return nil, failed
}

func (g *slicedGPU) listOccupants() (out []occupant, _ *wire.Error) {
	instances, failed := g.instances()
	for i := 0; i < len(instances) && failed == nil; i++ {
		o := occupant{instance: instances[i]}
		o.computes, failed = g.computes(o.instance)
		out = append(out, o)
	}
	return out, failed
}

// lives are the occupants as the ledger has them.
func lives(occupants []occupant) []ledger.Live {
	out := make([]ledger.Live, len(occupants))
	for i, o := range occupants {
		out[i] = o.live()
	}
	return out
}

func place(p mig.Placement) wire.Place { return wire.Place{Start: p.Start, Size: p.Size} }
