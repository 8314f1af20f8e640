// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"

	"golang.org/x/sys/unix"
)

// The type URLs of the two messages, as containerd registers them.
const (
	TypeURLV1 = "io.containerd.cgroups.v1.Metrics"
	TypeURLV2 = "io.containerd.cgroups.v2.Metrics"
)

// Buffer sizes in bytes. memory.stat is about 2.5 KiB; files that grow with the
// number of CPUs or devices make the buffer grow, up to a bound that no sane
// host reaches.
const (
	scratchSize = 4 << 10
	scratchMax  = 1 << 20
)

// Stats appends the encoding of the cgroup's Metrics message to dst and returns
// it with the message's type URL: V1 and Hybrid hosts give TypeURLV1, V2 hosts
// TypeURLV2. Units are those of the messages: bytes, and for CPU time
// nanoseconds on v1 and microseconds on v2.
//
// It reads kept descriptors into a reused buffer, takes no lock and starts
// nothing, so it may be called every second for each container. After the
// cgroup was removed the answer holds the last OOM counters and is otherwise
// empty. The error is errdefs.ErrNotFound after Close.
func (c *Cgroup) Stats(dst []byte) (encoded []byte, typeURL string, err error) {
	if !c.acquire() {
		return dst, "", errClosed("stats")
	}
	defer c.release()
	s := c.takeScratch()
	defer c.scratch.Put(s)
	if c.loc.Version == V2 {
		return c.appendV2(dst, s), TypeURLV2, nil
	}
	return c.appendV1(dst, s), TypeURLV1, nil
}

// scratch is the state of one reading.
type scratch struct {
	buf        []byte
	partitions []byte
	gone       bool // a read said that the cgroup has been removed
}

// takeScratch gets a scratch of our own, reused between calls.
func (c *Cgroup) takeScratch() *scratch {
	s, ok := c.scratch.Get().(*scratch)
	if !ok {
		s = &scratch{buf: make([]byte, scratchSize)}
	}
	s.gone, s.partitions = false, s.partitions[:0]
	return s
}

// read returns the contents of a kept file, valid until the next read, or nil
// when the file is absent or unreadable. The stats files are single records,
// which the kernel makes anew for a read at offset 0 and hands out in one piece
// when the buffer is large enough.
func (s *scratch) read(fd int) []byte {
	if fd < 0 {
		return nil
	}
	for {
		n, err := unix.Pread(fd, s.buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			s.gone = s.gone || errors.Is(err, unix.ENODEV)
			return nil
		case n == len(s.buf) && n < scratchMax:
			s.buf = make([]byte, 2*n)
		default:
			return s.buf[:n]
		}
	}
}

// number reads a kept file of one number; 0 when absent.
func (s *scratch) number(fd int, max maxPolicy) uint64 {
	v, _ := parseNumber(s.read(fd), max)
	return v
}

// readPartitions fills s.partitions once per reading; the file has a record per
// device, so it is read to its end.
func (s *scratch) readPartitions(fd int) {
	if len(s.partitions) > 0 || fd < 0 {
		return
	}
	for len(s.partitions) < scratchMax {
		n, err := unix.Pread(fd, s.buf, int64(len(s.partitions)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		s.partitions = append(s.partitions, s.buf[:n]...)
	}
}
