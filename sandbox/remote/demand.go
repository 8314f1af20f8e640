// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// GuestMiB is what the kernel and the agent of a guest need beside containers.
const GuestMiB = 96

// containerType is the annotation by which the CRI tells the container that
// only holds the pod's namespaces from those that were asked for.
const containerType, sandboxType = "io.kubernetes.cri.container-type", "sandbox"

// demand is what one container may have.
type demand struct {
	memory    int64 // bytes
	milli     int64 // of a CPU
	shares    uint64
	cpus      string
	oomScore  int
	isSandbox bool // it does nothing, and has no limits that count
}

func demandOf(spec *specs.Spec) demand {
	d := demand{isSandbox: spec.Annotations[containerType] == sandboxType}
	if spec.Process.OOMScoreAdj != nil {
		d.oomScore = *spec.Process.OOMScoreAdj
	}
	return d.with(spec.Linux.Resources)
}

// with is the demand after an update: what that does not mention stays.
func (d demand) with(r *specs.LinuxResources) demand {
	if r == nil {
		return d
	}
	if r.Memory != nil && r.Memory.Limit != nil && *r.Memory.Limit != 0 {
		d.memory = max(*r.Memory.Limit, 0) // -1 is none
	}
	if r.CPU == nil {
		return d
	}
	if r.CPU.Quota != nil && *r.CPU.Quota != 0 {
		period := uint64(100_000) // the kernel's default
		if r.CPU.Period != nil && *r.CPU.Period != 0 {
			period = *r.CPU.Period
		}
		d.milli = max(*r.CPU.Quota, 0) * 1000 / int64(period)
	}
	if r.CPU.Shares != nil && *r.CPU.Shares != 0 {
		d.shares = *r.CPU.Shares
	}
	if r.CPU.Cpus != "" {
		d.cpus = r.CPU.Cpus
	}
	return d
}

// together is what containers may have. One that has no limit leaves all of them
// without, because nobody can tell what it will take.
func together(all map[string]demand) Limits {
	var l Limits
	var sets []string
	count, memory, memories, quotas := 0, int64(0), 0, 0
	for _, d := range all {
		if d.isSandbox {
			continue
		}
		count++
		memory += d.memory
		l.CPUMilli += d.milli
		l.CPUShares += d.shares
		if d.memory > 0 {
			memories++
		}
		if d.milli > 0 {
			quotas++
		}
		if d.cpus != "" {
			sets = append(sets, d.cpus)
		}
		if l.OOMScoreAdj == nil || d.oomScore > *l.OOMScoreAdj {
			l.OOMScoreAdj = &d.oomScore
		}
	}
	if memories == count && count > 0 {
		l.MemoryMiB = int((memory+1<<20-1)>>20) + GuestMiB
	}
	if quotas < count {
		l.CPUMilli = 0
	}
	if len(sets) == count {
		l.CPUSet = strings.Join(sets, ",")
	}
	return l
}
