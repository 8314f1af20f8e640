// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fileID names a kept descriptor: an index into Cgroup.fds, of v1Files or of
// v2Files.
type fileID int

// statsFile is a file that Stats reads.
type statsFile struct{ controller, name string }

// v1 files. The memory entries are four groups of four, in the order of the
// fields of io.containerd.cgroups.v1.MemoryEntry.
const (
	v1CPUStat fileID = iota
	v1CPUUsage
	v1CPUAcctStat
	v1CPUPerCPU
	v1PidsCurrent
	v1PidsMax
	v1OOMControl
	v1MemoryStat
	v1MemoryEntries
	v1BlkioThrottleBytes = v1MemoryEntries + 16
	v1BlkioThrottleIOs   = v1BlkioThrottleBytes + 1
	v1BlkioScheduler     = v1BlkioThrottleIOs + 1 // eight, in the order of BlkIOStat's fields
)

// v1Files is the table of v1 files by id.
var v1Files = [...]statsFile{
	v1CPUStat:            {"cpu", "cpu.stat"},
	v1CPUUsage:           {"cpuacct", "cpuacct.usage"},
	v1CPUAcctStat:        {"cpuacct", "cpuacct.stat"},
	v1CPUPerCPU:          {"cpuacct", "cpuacct.usage_percpu"},
	v1PidsCurrent:        {"pids", "pids.current"},
	v1PidsMax:            {"pids", "pids.max"},
	v1OOMControl:         {"memory", "memory.oom_control"},
	v1MemoryStat:         {"memory", "memory.stat"},
	v1MemoryEntries:      {"memory", "memory.limit_in_bytes"},
	v1MemoryEntries + 1:  {"memory", "memory.usage_in_bytes"},
	v1MemoryEntries + 2:  {"memory", "memory.max_usage_in_bytes"},
	v1MemoryEntries + 3:  {"memory", "memory.failcnt"},
	v1MemoryEntries + 4:  {"memory", "memory.memsw.limit_in_bytes"},
	v1MemoryEntries + 5:  {"memory", "memory.memsw.usage_in_bytes"},
	v1MemoryEntries + 6:  {"memory", "memory.memsw.max_usage_in_bytes"},
	v1MemoryEntries + 7:  {"memory", "memory.memsw.failcnt"},
	v1MemoryEntries + 8:  {"memory", "memory.kmem.limit_in_bytes"},
	v1MemoryEntries + 9:  {"memory", "memory.kmem.usage_in_bytes"},
	v1MemoryEntries + 10: {"memory", "memory.kmem.max_usage_in_bytes"},
	v1MemoryEntries + 11: {"memory", "memory.kmem.failcnt"},
	v1MemoryEntries + 12: {"memory", "memory.kmem.tcp.limit_in_bytes"},
	v1MemoryEntries + 13: {"memory", "memory.kmem.tcp.usage_in_bytes"},
	v1MemoryEntries + 14: {"memory", "memory.kmem.tcp.max_usage_in_bytes"},
	v1MemoryEntries + 15: {"memory", "memory.kmem.tcp.failcnt"},
	v1BlkioThrottleBytes: {"blkio", "blkio.throttle.io_service_bytes"},
	v1BlkioThrottleIOs:   {"blkio", "blkio.throttle.io_serviced"},
	v1BlkioScheduler:     {"blkio", "blkio.io_service_bytes_recursive"},
	v1BlkioScheduler + 1: {"blkio", "blkio.io_serviced_recursive"},
	v1BlkioScheduler + 2: {"blkio", "blkio.io_queued_recursive"},
	v1BlkioScheduler + 3: {"blkio", "blkio.io_service_time_recursive"},
	v1BlkioScheduler + 4: {"blkio", "blkio.io_wait_time_recursive"},
	v1BlkioScheduler + 5: {"blkio", "blkio.io_merged_recursive"},
	v1BlkioScheduler + 6: {"blkio", "blkio.time_recursive"},
	v1BlkioScheduler + 7: {"blkio", "blkio.sectors_recursive"},
}

// v2 files.
const (
	v2PidsCurrent fileID = iota
	v2PidsMax
	v2CPUStat
	v2CPUPressure
	v2MemoryStat
	v2MemoryCurrent // six, in the order of MemoryStat's fields 32 to 37
	v2MemoryMax
	v2SwapCurrent
	v2SwapMax
	v2MemoryPeak
	v2SwapPeak
	v2MemoryPressure
	v2IOStat
	v2IOPressure
	v2RDMACurrent
	v2RDMAMax
	v2MemoryEvents
)

// v2Files is the table of v2 files by id.
var v2Files = [...]statsFile{
	v2PidsCurrent:    {Unified, "pids.current"},
	v2PidsMax:        {Unified, "pids.max"},
	v2CPUStat:        {Unified, "cpu.stat"},
	v2CPUPressure:    {Unified, "cpu.pressure"},
	v2MemoryStat:     {Unified, "memory.stat"},
	v2MemoryCurrent:  {Unified, "memory.current"},
	v2MemoryMax:      {Unified, "memory.max"},
	v2SwapCurrent:    {Unified, "memory.swap.current"},
	v2SwapMax:        {Unified, "memory.swap.max"},
	v2MemoryPeak:     {Unified, "memory.peak"},
	v2SwapPeak:       {Unified, "memory.swap.peak"},
	v2MemoryPressure: {Unified, "memory.pressure"},
	v2IOStat:         {Unified, "io.stat"},
	v2IOPressure:     {Unified, "io.pressure"},
	v2RDMACurrent:    {Unified, "rdma.current"},
	v2RDMAMax:        {Unified, "rdma.max"},
	v2MemoryEvents:   {Unified, "memory.events"},
}

// hugePages is one huge page size; size is as in the file names ("2MB").
type hugePages struct {
	size                string
	usage, max, failcnt int // max is the limit on v2, the highest usage on v1
}

// openFiles opens what exists; a missing file leaves -1.
func (c *Cgroup) openFiles() {
	table := v1Files[:]
	if c.loc.Version == V2 {
		table = v2Files[:]
	}
	c.fds = make([]int, len(table))
	for id, f := range table {
		c.fds[id] = c.openIn(f.controller, f.name)
	}
	if c.loc.Version == V2 {
		c.openHugePages(Unified, "current", "max", "events")
		c.parent = c.openIn(Unified, "../memory.events")
		return
	}
	if _, ok := c.dirs["hugetlb"]; ok {
		c.openHugePages("hugetlb", "usage_in_bytes", "max_usage_in_bytes", "failcnt")
	} else {
		// A hybrid host may have hugetlb on the unified hierarchy, where no
		// file holds the highest usage.
		c.openHugePages(Unified, "current", "", "events")
	}
	if _, ok := c.dirs["blkio"]; ok {
		c.partitions = openRead(unix.AT_FDCWD, filepath.Join(c.view.root, "/proc/partitions"))
	}
}

// openHugePages finds the page sizes by the files hugetlb.<size>.<usage>.
func (c *Cgroup) openHugePages(controller, usage, max, failcnt string) {
	dir, ok := c.dirs[controller]
	if !ok {
		return
	}
	names, err := readNames(dir)
	if err != nil {
		return
	}
	slices.Sort(names)
	for _, name := range names {
		size, ok := strings.CutPrefix(name, "hugetlb.")
		if !ok {
			continue
		}
		if size, ok = strings.CutSuffix(size, "."+usage); !ok || strings.Contains(size, ".") {
			continue // another file, or of reservations (hugetlb.2MB.rsvd.current)
		}
		h := hugePages{size: size, usage: openRead(dir, name), max: -1, failcnt: openRead(dir, "hugetlb."+size+"."+failcnt)}
		if max != "" {
			h.max = openRead(dir, "hugetlb."+size+"."+max)
		}
		c.huge = append(c.huge, h)
	}
}

// openIn opens a file of controller's directory for reading, or returns -1.
func (c *Cgroup) openIn(controller, name string) int {
	dir, ok := c.dirs[controller]
	if !ok {
		return -1
	}
	return openRead(dir, name)
}

func openRead(dir int, name string) int {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// readNames lists a directory that is open as O_PATH.
func readNames(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "cgroup")
	defer f.Close()
	return f.Readdirnames(-1)
}
