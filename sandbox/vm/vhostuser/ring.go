// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"encoding/binary"
	"fmt"
)

// ring is a guest's queue, in its memory, at addresses of QEMU's.
type ring struct {
	number      uint32
	descriptors uint64
	available   uint64
	used        uint64

	taken uint16 // how many requests were taken, as the guest counts them
	given uint16 // how many were given back
}

// maxRing is that of virtio 1.1, 2.6.
const maxRing = 32 << 10

// resume begins where the ring is, as nothing is under way.
func (r *ring) resume(m *memory) error {
	if r.number == 0 || r.number > maxRing || r.number&(r.number-1) != 0 {
		return fmt.Errorf("a queue of %d", r.number)
	}
	var b [4]byte
	if err := m.read(b[:], r.used); err != nil {
		return err
	}
	r.given = binary.LittleEndian.Uint16(b[2:])
	return nil
}

// pending is how many requests the guest has ready.
func (r *ring) pending(m *memory) (int, error) {
	var b [4]byte // flags, index
	if err := m.read(b[:], r.available); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint16(b[2:]) - r.taken
	if uint32(n) > r.number {
		return 0, fmt.Errorf("%d requests in a queue of %d", n, r.number)
	}
	return int(n), nil
}

// take takes one request.
func (r *ring) take(m *memory) (*chain, error) {
	var b [2]byte
	if err := m.read(b[:], r.available+4+2*uint64(uint32(r.taken)%r.number)); err != nil {
		return nil, err
	}
	c := &chain{head: binary.LittleEndian.Uint16(b[:])}
	own := table{int(r.number), func(i int) (descriptor, error) {
		var b [descriptorSize]byte
		err := m.read(b[:], r.descriptors+descriptorSize*uint64(i))
		return decode(b[:]), err
	}}
	if err := own.walk(m, c, int(c.head)); err != nil {
		return nil, err
	}
	r.taken++
	return c, nil
}

// give gives a request back, of which so many bytes were answered. The guest may
// look as soon as the index is there.
func (r *ring) give(m *memory, c *chain, length uint32) error {
	le := binary.LittleEndian
	element := le.AppendUint32(le.AppendUint32(nil, uint32(c.head)), length)
	if err := m.write(element, r.used+4+8*uint64(uint32(r.given)%r.number)); err != nil {
		return err
	}
	r.given++
	return m.write(le.AppendUint16(nil, r.given), r.used+2)
}
