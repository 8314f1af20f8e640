// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
)

// appendBlkio appends v1's BlkIOStat. As in containerd's library, the files of
// the CFQ scheduler come first (kernels before 5.0); where they are absent or
// hold no device, the throttling layer's take their place in fields 1 and 2.
func (c *Cgroup) appendBlkio(b []byte, s *scratch) []byte {
	if _, ok := c.dirs["blkio"]; !ok {
		return b
	}
	b, mark := openMessage(b, 5)
	if c.fds[v1BlkioScheduler] >= 0 {
		for i := range 8 {
			b = c.appendBlkioFile(b, s, protowire.Number(1+i), v1BlkioScheduler+fileID(i))
		}
	}
	if len(b) == mark {
		b = c.appendBlkioFile(b, s, 1, v1BlkioThrottleBytes)
		b = c.appendBlkioFile(b, s, 2, v1BlkioThrottleIOs)
	}
	return closeMessage(b, mark)
}

// appendBlkioFile appends a BlkIOEntry per line "major:minor [operation] value"
// (blkio-controller.rst). The last line, "Total value", is of no device.
func (c *Cgroup) appendBlkioFile(b []byte, s *scratch, field protowire.Number, id fileID) []byte {
	text := s.read(c.fds[id])
	if bytes.IndexByte(text, ':') < 0 {
		return b
	}
	if len(s.partitions) == 0 {
		// readPartitions uses the buffer that text lies in.
		s.readPartitions(c.partitions)
		text = s.read(c.fds[id])
	}
	return appendBlkioEntries(b, text, s.partitions, field)
}

func appendBlkioEntries(b, text, partitions []byte, field protowire.Number) []byte {
	for len(text) > 0 {
		var line []byte
		line, text = nextLine(text)
		device, rest := nextField(line)
		major, minor, ok := parseDevice(device)
		if !ok {
			continue
		}
		op, rest := nextField(rest)
		number, _ := nextField(rest)
		if len(number) == 0 {
			op, number = nil, op
		}
		value, ok := parseUint(number)
		if !ok {
			continue
		}
		var mark int
		b, mark = openMessage(b, field)
		b = appendText(b, 1, "", op)
		if name := deviceName(partitions, major, minor); name != nil {
			b = appendText(b, 2, "/dev/", name)
		}
		b = appendUint(b, 3, major)
		b = appendUint(b, 4, minor)
		b = appendUint(b, 5, value)
		b = closeMessage(b, mark)
	}
	return b
}
