// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// appendV2 appends io.containerd.cgroups.v2.Metrics. Field numbers are those of
// github.com/containerd/cgroups/v3/cgroup2/stats/metrics.proto.
func (c *Cgroup) appendV2(b []byte, s *scratch) []byte {
	start := len(b)
	counts := c.readCounters(s)
	if !s.gone {
		b = c.appendPids(b, s, 1, v2PidsCurrent, v2PidsMax, maxIsMax)
		b = c.appendCPUV2(b, s)
		b = c.appendMemoryV2(b, s)
		b = c.appendRDMA(b, s)
		b = c.appendIO(b, s)
		b = c.appendHugetlb(b, s, 7, hugetlbV2)
	}
	if s.gone {
		b = b[:start] // as in appendV1
		counts = c.lastCounters()
	}
	if counts.valid {
		var mark int
		b, mark = openMessage(b, 8)
		b = appendUint(b, 1, counts.low)
		b = appendUint(b, 2, counts.high)
		b = appendUint(b, 3, counts.max)
		b = appendUint(b, 4, counts.oom)
		b = appendUint(b, 5, counts.oomKill)
		b = appendUint(b, 6, counts.oomGroupKill)
		b = closeMessage(b, mark)
	}
	return b
}

func (c *Cgroup) appendCPUV2(b []byte, s *scratch) []byte {
	b, mark := openMessage(b, 2)
	b = appendPairs(b, s.read(c.fds[v2CPUStat]), cpuFieldV2)
	b = c.appendPressure(b, s, 7, v2CPUPressure)
	return closeMessage(b, mark)
}

func cpuFieldV2(key []byte) protowire.Number {
	switch string(key) {
	case "usage_usec":
		return 1
	case "user_usec":
		return 2
	case "system_usec":
		return 3
	case "nr_periods":
		return 4
	case "nr_throttled":
		return 5
	case "throttled_usec":
		return 6
	case "nr_bursts":
		return 8
	case "burst_usec":
		return 9
	}
	return 0
}

func (c *Cgroup) appendMemoryV2(b []byte, s *scratch) []byte {
	b, mark := openMessage(b, 4)
	if c.fds[v2MemoryStat] >= 0 {
		b = appendPairs(b, s.read(c.fds[v2MemoryStat]), memoryFieldV2)
		for i := range 6 {
			b = appendUint(b, protowire.Number(32+i), s.number(c.fds[int(v2MemoryCurrent)+i], maxIsMax))
		}
		b = c.appendPressure(b, s, 38, v2MemoryPressure)
	}
	return closeMessage(b, mark)
}

// memoryFieldV2 maps a key of memory.stat.
func memoryFieldV2(key []byte) protowire.Number {
	for i, name := range memoryKeysV2 {
		if string(key) == name {
			return protowire.Number(1 + i)
		}
	}
	return 0
}

// memoryKeysV2 are fields 1 to 31 of MemoryStat. The three without a suffix
// after "workingset_" are of kernels before 5.9, which did not tell anonymous
// memory from files there.
var memoryKeysV2 = [...]string{
	"anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback",
	"anon_thp", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
	"slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault",
	"workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate",
	"pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
}

// appendRDMA appends RdmaStat; it is there, though empty, on a host without such
// devices too, as in containerd's library.
func (c *Cgroup) appendRDMA(b []byte, s *scratch) []byte {
	b, mark := openMessage(b, 5)
	b = appendRDMAEntries(b, s.read(c.fds[v2RDMACurrent]), 1)
	b = appendRDMAEntries(b, s.read(c.fds[v2RDMAMax]), 2)
	return closeMessage(b, mark)
}

// appendRDMAEntries reads lines "device hca_handle=2 hca_object=max"
// (cgroup-v2.rst, "RDMA"); the message's numbers have 32 bits.
func appendRDMAEntries(b, text []byte, field protowire.Number) []byte {
	for len(text) > 0 {
		var line []byte
		line, text = nextLine(text)
		device, rest := nextField(line)
		if len(device) == 0 {
			continue
		}
		var mark int
		b, mark = openMessage(b, field)
		b = appendText(b, 1, "", device)
		for len(rest) > 0 {
			var pair []byte
			pair, rest = nextField(rest)
			key, text, _ := bytes.Cut(pair, []byte{'='})
			value, _ := parseNumber(text, maxIsMax)
			value = min(value, math.MaxUint32)
			switch string(key) {
			case "hca_handle":
				b = appendUint(b, 2, value)
			case "hca_object":
				b = appendUint(b, 3, value)
			}
		}
		b = closeMessage(b, mark)
	}
	return b
}

// appendIO appends IOStat from io.stat, whose lines are
// "major:minor rbytes=1 wbytes=2 rios=3 wios=4 ..." ("nested keyed").
func (c *Cgroup) appendIO(b []byte, s *scratch) []byte {
	b, mark := openMessage(b, 6)
	b = appendIOEntries(b, s.read(c.fds[v2IOStat]))
	b = c.appendPressure(b, s, 2, v2IOPressure)
	return closeMessage(b, mark)
}

func appendIOEntries(b, text []byte) []byte {
	for len(text) > 0 {
		var line []byte
		line, text = nextLine(text)
		device, rest := nextField(line)
		major, minor, ok := parseDevice(device)
		if !ok || len(bytes.TrimSpace(rest)) == 0 {
			continue
		}
		var mark int
		b, mark = openMessage(b, 1)
		b = appendUint(b, 1, major)
		b = appendUint(b, 2, minor)
		for len(rest) > 0 {
			var pair []byte
			pair, rest = nextField(rest)
			key, number, _ := bytes.Cut(pair, []byte{'='})
			if value, ok := parseUint(number); ok {
				if field := ioField(key); field != 0 {
					b = appendUint(b, field, value)
				}
			}
		}
		b = closeMessage(b, mark)
	}
	return b
}

func ioField(key []byte) protowire.Number {
	switch string(key) {
	case "rbytes":
		return 3
	case "wbytes":
		return 4
	case "rios":
		return 5
	case "wios":
		return 6
	}
	return 0
}

// appendPressure appends PSIStats; nothing where the kernel has no pressure
// accounting (the file is absent, or opening it was refused).
func (c *Cgroup) appendPressure(b []byte, s *scratch, field protowire.Number, id fileID) []byte {
	text := s.read(c.fds[id])
	if len(text) == 0 {
		return b
	}
	b, mark := openMessage(b, field)
	b = appendPSI(b, text)
	return closeMessage(b, mark)
}

// appendPSI reads the lines "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"
// and "full ..." (Documentation/accounting/psi.rst); total is in microseconds.
func appendPSI(b, text []byte) []byte {
	for len(text) > 0 {
		var line []byte
		line, text = nextLine(text)
		kind, rest := nextField(line)
		var field protowire.Number
		switch string(kind) {
		case "some":
			field = 1
		case "full":
			field = 2
		default:
			continue
		}
		var mark int
		b, mark = openMessage(b, field)
		for len(rest) > 0 {
			var pair []byte
			pair, rest = nextField(rest)
			key, number, _ := bytes.Cut(pair, []byte{'='})
			b = appendPSIField(b, key, number)
		}
		b = closeMessage(b, mark)
	}
	return b
}

func appendPSIField(b, key, number []byte) []byte {
	var field protowire.Number
	switch string(key) {
	case "avg10":
		field = 1
	case "avg60":
		field = 2
	case "avg300":
		field = 3
	case "total":
		if v, ok := parseUint(number); ok {
			return appendUint(b, 4, v)
		}
		return b
	default:
		return b
	}
	if v, ok := parseAverage(number); ok {
		return appendDouble(b, field, v)
	}
	return b
}
