// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Limits are what a pod's containers may have together, for their machine to
// have that much of the host and not more. Its zero value is no limit but the
// machine's size.
type Limits struct {
	// MemoryMiB is what the guest is left with.
	MemoryMiB int
	// CPUMilli are thousandths of a CPU.
	CPUMilli int64
	// CPUShares is the weight among others, as cgroup v1 counts it.
	CPUShares uint64
	// CPUSet are the CPUs to run on, as cpuset.cpus has them.
	CPUSet string
	// OOMScoreAdj is how soon the host kills the machine if it has no memory
	// left (proc_pid_oom_score_adj(5)); nil leaves it as it is.
	OOMScoreAdj *int
}

// What a machine takes of the host beside what its guest has.
const (
	// vmmMiB is for QEMU, virtiofsd and their page tables; some 60 are used
	// (docs/vm.md). Page cache that virtiofsd fills is reclaimed before anybody
	// is killed.
	vmmMiB = 160
	// translationMiB bounds what emulation keeps of translated code, and
	// tcgMiB is what it takes beside that.
	translationMiB = 256
	tcgMiB         = 64
	// vmmMilli is for what QEMU does beside running the guest's CPUs.
	vmmMilli = 250
	// vmmTasks are QEMU's and virtiofsd's threads: their own limits are below.
	vmmTasks = vmmThreads + 256
)

// overheadMiB is what there is to be on the host for a machine beside the
// memory that its guest has.
func overheadMiB(accel Accel, memoryMiB int) int {
	own := vmmMiB + memoryMiB/128 // page tables: 8 bytes for 4 KiB in each of the two programs, and more
	if accel == TCG {
		own += translationMiB + tcgMiB
	}
	return own
}

// balloonTimeout is how long the guest may take to give memory back before the
// host's limit is left where it was.
const balloonTimeout = 10 * time.Second

// Limit sets what the machine may have. Memory that the guest is to give back it
// gives in its own time; the host's limit follows what it has.
func (m *Machine) Limit(ctx context.Context, l Limits) error {
	want := m.memoryMiB
	// What a balloon takes of a template's memory the host does not get: all that
	// comes of it is that the guest has written to it.
	if l.MemoryMiB > 0 && !m.private {
		want = min(max(l.MemoryMiB, MinMemoryMiB), m.memoryMiB)
	}
	err := errors.Join(m.limitCPU(l), m.adjustOOM(l.OOMScoreAdj))
	has, hasErr := m.MemoryMiB(ctx)
	if hasErr != nil {
		return errors.Join(err, hasErr)
	}
	if want > has {
		err = errors.Join(err, m.limitMemory(want))
	}
	if want != has {
		err = errors.Join(err, m.Balloon(ctx, want))
	}
	if want < has {
		if has, hasErr = m.awaitBalloon(ctx, balloonTimeout, func(has int) bool { return has <= want }); hasErr == nil {
			hasErr = m.limitMemory(has)
		}
	}
	return errors.Join(err, hasErr)
}

// awaitBalloon waits until the guest has as much memory as it should, or will
// not have, and says what it has.
func (m *Machine) awaitBalloon(ctx context.Context, limit time.Duration, enough func(mib int) bool) (int, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		has, err := m.MemoryMiB(ctx)
		if err != nil || enough(has) {
			return has, err
		}
		select {
		case <-m.ballooned:
		case <-m.done:
			return has, fmt.Errorf("machine %s has ended", m.id)
		case <-timer.C:
			return has, nil
		case <-ctx.Done():
			return has, nil // what it gives later is the host's all the same
		}
	}
}

// limitMemory bounds the memory of all that the machine is on the host.
func (m *Machine) limitMemory(guestMiB int) error {
	limit := strconv.FormatInt(int64(guestMiB+overheadMiB(m.accel, m.memoryMiB))<<20, 10)
	return m.set(knob{"memory", "memory.limit_in_bytes", limit}, knob{"memory", "memory.max", limit})
}

const cpuPeriod = 100_000 // µs

func (m *Machine) limitCPU(l Limits) error {
	quota, limit := "-1", "max"
	if l.CPUMilli > 0 {
		quota = strconv.FormatInt((l.CPUMilli+vmmMilli)*cpuPeriod/1000, 10)
		limit = quota
	}
	shares := max(l.CPUShares, 2)
	if l.CPUShares == 0 {
		shares = 1024
	}
	err := errors.Join(
		m.set(knob{"cpu", "cpu.cfs_quota_us", quota}, knob{"cpu", "cpu.max", fmt.Sprintf("%s %d", limit, cpuPeriod)}),
		m.set(knob{"cpu", "cpu.shares", strconv.FormatUint(shares, 10)}, knob{"cpu", "cpu.weight", strconv.FormatUint(weight(shares), 10)}),
	)
	if l.CPUSet != "" || m.cpuset {
		m.cpuset = true
		err = errors.Join(err, m.limitCPUSet(l.CPUSet))
	}
	return err
}

// weight is what cgroup v2 has for v1's shares, as runc converts them (Kubernetes
// KEP-2254).
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

func (m *Machine) adjustOOM(score *int) error {
	if score == nil {
		return nil
	}
	var errs []error
	for _, p := range m.programs() {
		path := filepath.Join("/proc", strconv.Itoa(p.Pid()), "oom_score_adj")
		if err := os.WriteFile(path, []byte(strconv.Itoa(*score)), 0); err != nil {
			errs = append(errs, fmt.Errorf("tell the host's OOM killer of machine %s: %w", m.id, err))
		}
	}
	return errors.Join(errs...)
}
