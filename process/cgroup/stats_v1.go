// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
)

// nsPerTick converts cpuacct.stat, in USER_HZ ticks of 1/100 s on every
// architecture that Linux has, to nanoseconds.
const nsPerTick = 1e9 / 100

// appendV1 appends io.containerd.cgroups.v1.Metrics. Field numbers are those of
// github.com/containerd/cgroups/v3/cgroup1/stats/metrics.proto.
func (c *Cgroup) appendV1(b []byte, s *scratch) []byte {
	start := len(b)
	counts := c.readCounters(s)
	if !s.gone {
		b = c.appendHugetlb(b, s, 1, hugetlbV1)
		b = c.appendPids(b, s, 2, v1PidsCurrent, v1PidsMax, maxIsZero)
		b = c.appendCPUV1(b, s)
		b = c.appendMemoryV1(b, s)
		b = c.appendBlkio(b, s)
	}
	if s.gone {
		// Removed, perhaps between two of the reads: half an answer would look
		// like counters that fell to zero.
		b = b[:start]
		counts = c.lastCounters()
	}
	if counts.valid {
		var mark int
		b, mark = openMessage(b, 9)
		b = appendUint(b, 1, counts.killDisable)
		b = appendUint(b, 2, counts.underOOM)
		b = appendUint(b, 3, counts.oomKill)
		b = closeMessage(b, mark)
	}
	return b
}

// appendPids appends PidsStat, which both messages have alike.
func (c *Cgroup) appendPids(b []byte, s *scratch, field protowire.Number, current, limit fileID, max maxPolicy) []byte {
	if c.fds[current] < 0 {
		return b
	}
	b, mark := openMessage(b, field)
	b = appendUint(b, 1, s.number(c.fds[current], max))
	b = appendUint(b, 2, s.number(c.fds[limit], max))
	return closeMessage(b, mark)
}

// appendCPUV1 appends CPUStat; usage and throttling are always present, as
// consumers follow them without a check.
func (c *Cgroup) appendCPUV1(b []byte, s *scratch) []byte {
	b, cpu := openMessage(b, 3)
	b, usage := openMessage(b, 1)
	b = appendUint(b, 1, s.number(c.fds[v1CPUUsage], maxIsZero))
	times := s.read(c.fds[v1CPUAcctStat])
	system, _ := lookup(times, "system")
	user, _ := lookup(times, "user")
	b = appendUint(b, 2, system*nsPerTick)
	b = appendUint(b, 3, user*nsPerTick)
	b = appendPerCPU(b, s.read(c.fds[v1CPUPerCPU]))
	b = closeMessage(b, usage)
	b, throttling := openMessage(b, 2)
	b = appendPairs(b, s.read(c.fds[v1CPUStat]), throttleFieldV1)
	b = closeMessage(b, throttling)
	return closeMessage(b, cpu)
}

// appendPerCPU appends the packed list of per-CPU times, zeros included: the
// place in the list is the CPU's number.
func appendPerCPU(b, text []byte) []byte {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return b
	}
	b, mark := openMessage(b, 4)
	for len(text) > 0 {
		var field []byte
		field, text = nextField(text)
		v, ok := parseUint(field)
		if !ok {
			break
		}
		b = protowire.AppendVarint(b, v)
	}
	return closeMessage(b, mark)
}

func throttleFieldV1(key []byte) protowire.Number {
	switch string(key) {
	case "nr_periods":
		return 1
	case "nr_throttled":
		return 2
	case "throttled_time":
		return 3
	}
	return 0
}

// appendMemoryV1 appends MemoryStat with its four entries: usage, swap (memory
// and swap together), kernel, kernel TCP.
func (c *Cgroup) appendMemoryV1(b []byte, s *scratch) []byte {
	if c.fds[v1MemoryStat] < 0 {
		return b
	}
	b, memory := openMessage(b, 4)
	b = appendPairs(b, s.read(c.fds[v1MemoryStat]), memoryFieldV1)
	for group := range 4 {
		var entry int
		b, entry = openMessage(b, protowire.Number(33+group))
		for i := range 4 {
			b = appendUint(b, protowire.Number(1+i), s.number(c.fds[int(v1MemoryEntries)+4*group+i], maxIsZero))
		}
		b = closeMessage(b, entry)
	}
	return closeMessage(b, memory)
}

// memoryFieldV1 maps a key of memory.stat. The sixteen from "cache" on are this
// cgroup's own; "total_" gives the same with its descendants, 17 further on.
func memoryFieldV1(key []byte) protowire.Number {
	switch string(key) {
	case "hierarchical_memory_limit":
		return 16
	case "hierarchical_memsw_limit":
		return 17
	}
	offset := protowire.Number(0)
	if own, ok := bytes.CutPrefix(key, []byte("total_")); ok {
		key, offset = own, 17
	}
	for i, name := range memoryKeysV1 {
		if string(key) == name {
			return protowire.Number(1+i) + offset
		}
	}
	return 0
}

// memoryKeysV1 are fields 1 to 15 of MemoryStat.
var memoryKeysV1 = [...]string{
	"cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault",
	"pgmajfault", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
}

// hugetlbFields are the field numbers of one HugetlbStat message.
type hugetlbFields struct {
	usage, max, failcnt, size protowire.Number
	policy                    maxPolicy
}

var (
	hugetlbV1 = hugetlbFields{usage: 1, max: 2, failcnt: 3, size: 4, policy: maxIsZero}
	hugetlbV2 = hugetlbFields{usage: 1, max: 2, failcnt: 4, size: 3, policy: maxIsMax}
)

// appendHugetlb appends one message per page size.
func (c *Cgroup) appendHugetlb(b []byte, s *scratch, field protowire.Number, f hugetlbFields) []byte {
	for _, h := range c.huge {
		var mark int
		b, mark = openMessage(b, field)
		b = appendUint(b, f.usage, s.number(h.usage, f.policy))
		b = appendUint(b, f.max, s.number(h.max, f.policy))
		failures := s.read(h.failcnt)
		count, ok := lookup(failures, "max") // v2: hugetlb.<size>.events
		if !ok {
			count, _ = parseNumber(failures, f.policy)
		}
		b = appendUint(b, f.failcnt, count)
		b = appendText(b, f.size, h.size, nil)
		b = closeMessage(b, mark)
	}
	return b
}
