// SPDX-License-Identifier: Apache-2.0

// Package mig chooses where on which GPU a MIG instance is made.
//
// A GPU in MIG mode has memory slices, eight on most models, and seven compute
// slices. An instance takes a run of memory slices, and may begin only where
// its profile's placements say. What matters is what a choice leaves to others:
// one small instance in the wrong place keeps a large one out for as long as it
// lives, since instances cannot be moved.
//
// All tables are NVML's, read from the GPU. Nothing here knows a model.
//
// What does not belong here: calls of NVML, files, waiting (cmd/berth-gpu).
package mig

// Placement is a run of memory slices, as NVML's nvmlGpuInstancePlacement_t.
type Placement struct{ Start, Size int }

// Overlaps says that two share a memory slice.
func (p Placement) Overlaps(q Placement) bool {
	return p.Start < q.Start+q.Size && q.Start < p.Start+p.Size
}

// Profile is a kind of GPU instance, as NVML reports it for one GPU.
type Profile struct {
	ID         int    // nvidia-smi mig -lgip
	Enum       int    // NVML_GPU_INSTANCE_PROFILE_...
	Name       string // "1g.18gb"
	Slices     int    // compute slices
	Memory     uint64 // bytes
	Max        int    // instances in a whole GPU
	Placements []Placement
}

// Instance is a live GPU instance.
type Instance struct {
	GI, Profile int
	Placement   Placement
}

// GPU is one GPU in MIG mode.
type GPU struct {
	BusID, UUID string
	Index       int
	Profiles    []Profile
	Instances   []Instance // all of them, whoever made them
}

// Fits are the placements of a profile that are free, in NVML's order. The
// driver refuses one whose memory slices are taken, an instance beyond the most
// that there may be of its profile, and one beyond the compute slices.
func (g *GPU) Fits(p Profile) (out []Placement) {
	if !g.counts(p) {
		return nil
	}
	for _, at := range p.Placements {
		if g.free(at) {
			out = append(out, at)
		}
	}
	return out
}

func (g *GPU) free(at Placement) bool {
	for _, in := range g.Instances {
		if in.Placement.Overlaps(at) {
			return false
		}
	}
	return true
}

// counts says that one more of a profile is within what is counted.
func (g *GPU) counts(p Profile) bool {
	all, taken, same := 0, 0, 0
	for _, q := range g.Profiles {
		all = max(all, q.Slices)
		for _, in := range g.Instances {
			if in.Profile == q.ID {
				taken += q.Slices
			}
		}
	}
	for _, in := range g.Instances {
		if in.Profile == p.ID {
			same++
		}
	}
	return same < p.Max && taken+p.Slices <= all
}

// open is how much a GPU can still take: its free placements, each counted by
// its memory slices, so that a place for a large instance is worth as much as
// those for the small ones in it. Variants of a profile count once.
func (g *GPU) open() (n int) {
	for _, p := range g.Profiles {
		if p.plain() {
			n += len(g.Fits(p)) * p.size()
		}
	}
	return n
}

// cost is what a GPU can take less once there is an instance at a place. An
// empty GPU has most to lose, so it is the last to be broken up.
func (g *GPU) cost(p Profile, at Placement) int {
	before := g.open()
	g.Instances = append(g.Instances, Instance{GI: -1, Profile: p.ID, Placement: at})
	after := g.open()
	g.Instances = g.Instances[:len(g.Instances)-1]
	return before - after
}
