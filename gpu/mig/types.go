// SPDX-License-Identifier: Apache-2.0

// Package mig chooses where on which GPU a MIG instance is made.
package mig

// Placement is a run of memory slices, as NVML's nvmlGpuInstancePlacement_t.
type Placement struct{ Start, Size int }

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
	Instances   []Instance
}
