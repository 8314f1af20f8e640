// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Update applies an OCI LinuxResources object, given as JSON.
func (d *Driver) Update(ctx context.Context, id string, resources []byte) error {
	return d.with(ctx, "update", id, func(c *libcontainer.Container) error {
		no := false
		r := specs.LinuxResources{
			Memory:  &specs.LinuxMemory{CheckBeforeUpdate: &no},
			CPU:     &specs.LinuxCPU{},
			BlockIO: &specs.LinuxBlockIO{},
			Pids:    &specs.LinuxPids{},
		}
		if err := json.Unmarshal(resources, &r); err != nil {
			return err
		}
		config := c.Config()
		apply(config.Cgroups.Resources, &r)
		// The device rules are as they were; others may have added to them since.
		config.Cgroups.SkipDevices = true
		return c.Set(config)
	})
}

// apply changes what is asked for, and what goes with it, as the command line
// does.
func apply(to *cgroups.Resources, r *specs.LinuxResources) {
	if r.Memory == nil { // "null", which the command line does not survive
		r.Memory = &specs.LinuxMemory{}
	}
	if r.CPU == nil {
		r.CPU = &specs.LinuxCPU{}
	}
	if r.BlockIO == nil {
		r.BlockIO = &specs.LinuxBlockIO{}
	}
	if r.Pids == nil {
		r.Pids = &specs.LinuxPids{}
	}
	applyMemory(to, r.Memory)
	applyCPU(to, r.CPU)
	applyBlockIO(to, r.BlockIO)
	to.PidsLimit = r.Pids.Limit
	to.Unified = r.Unified
}

func applyMemory(to *cgroups.Resources, m *specs.LinuxMemory) {
	if m.Limit != nil && *m.Limit == -1 && m.Swap == nil {
		none := int64(0) // a swap limit goes only with one of memory
		m.Swap = &none
	}
	set(&to.Memory, m.Limit)
	set(&to.MemoryReservation, m.Reservation)
	set(&to.MemorySwap, m.Swap)
	set(&to.MemoryCheckBeforeUpdate, m.CheckBeforeUpdate)
}

func applyCPU(to *cgroups.Resources, c *specs.LinuxCPU) {
	if c.Idle != nil && c.Shares == nil {
		none := uint64(0) // an idle cgroup has no weight
		c.Shares = &none
	}
	var (
		period uint64
		quota  int64
	)
	set(&period, c.Period)
	set(&quota, c.Quota)
	// One of the two alone leaves the other as it was.
	if both := period != 0 && quota != 0 || period == 0 && quota == 0; both || period != 0 {
		to.CpuPeriod = period
		if both {
			to.CpuQuota = quota
		}
	} else {
		to.CpuQuota = quota
	}
	if c.Shares != nil {
		to.CpuShares = *c.Shares
		to.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*c.Shares)
	}
	set(&to.CpuRtPeriod, c.RealtimePeriod)
	set(&to.CpuRtRuntime, c.RealtimeRuntime)
	to.CpuBurst, to.CPUIdle = c.Burst, c.Idle
	to.CpusetCpus, to.CpusetMems = c.Cpus, c.Mems
}

func applyBlockIO(to *cgroups.Resources, b *specs.LinuxBlockIO) {
	set(&to.BlkioWeight, b.Weight)
	set(&to.BlkioLeafWeight, b.LeafWeight)
	for _, d := range b.WeightDevice {
		to.BlkioWeightDevice = setWeight(to.BlkioWeightDevice, d)
	}
	for _, t := range []struct {
		to  *[]*cgroups.ThrottleDevice
		set []specs.LinuxThrottleDevice
	}{
		{&to.BlkioThrottleReadBpsDevice, b.ThrottleReadBpsDevice},
		{&to.BlkioThrottleWriteBpsDevice, b.ThrottleWriteBpsDevice},
		{&to.BlkioThrottleReadIOPSDevice, b.ThrottleReadIOPSDevice},
		{&to.BlkioThrottleWriteIOPSDevice, b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.set {
			*t.to = setThrottle(*t.to, d)
		}
	}
}

// setWeight changes the last entry of a device, which is the one that counts, or
// adds one.
func setWeight(devices []*cgroups.WeightDevice, d specs.LinuxWeightDevice) []*cgroups.WeightDevice {
	for _, known := range slices.Backward(devices) {
		if known.Major == d.Major && known.Minor == d.Minor {
			set(&known.Weight, d.Weight)
			set(&known.LeafWeight, d.LeafWeight)
			return devices
		}
	}
	var weight, leaf uint16
	set(&weight, d.Weight)
	set(&leaf, d.LeafWeight)
	return append(devices, cgroups.NewWeightDevice(d.Major, d.Minor, weight, leaf))
}

// setThrottle is setWeight for a limit.
func setThrottle(devices []*cgroups.ThrottleDevice, d specs.LinuxThrottleDevice) []*cgroups.ThrottleDevice {
	for _, known := range slices.Backward(devices) {
		if known.Major == d.Major && known.Minor == d.Minor {
			known.Rate = d.Rate
			return devices
		}
	}
	return append(devices, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
}

// set takes a value over that was given.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}
