// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// descriptor is a guest's, virtq_desc of virtio 1.1, 2.6.5.
type descriptor struct {
	Address     uint64
	Length      uint32
	Flags, Next uint16
}

const (
	descriptorSize = 16

	flagNext     = 1
	flagWrite    = 2
	flagIndirect = 4

	// maxIndirect bounds a table of descriptors.
	maxIndirect = 1024
)

func decode(b []byte) descriptor {
	le := binary.LittleEndian
	return descriptor{le.Uint64(b), le.Uint32(b[8:]), le.Uint16(b[12:]), le.Uint16(b[14:])}
}

// chain is what a guest asks with, and where the answer is to be.
type chain struct {
	head    uint16
	out, in []span
	outSize int
	inSize  int
}

// add takes one descriptor of a chain.
func (c *chain) add(m *memory, d descriptor) error {
	s, err := m.find(d.Address, d.Length)
	if err != nil {
		return err
	}
	switch {
	case d.Flags&flagWrite != 0:
		c.in, c.inSize = append(c.in, s), c.inSize+s.length
	case len(c.in) > 0:
		return errors.New("a descriptor to read from after one to write to")
	default:
		c.out, c.outSize = append(c.out, s), c.outSize+s.length
	}
	if c.outSize > half || c.inSize > half {
		return fmt.Errorf("a request of %d bytes with %d for its answer: %d are possible", c.outSize, c.inSize, half)
	}
	return nil
}

// table has descriptors: a ring's own, or one that a descriptor of it names.
type table struct {
	number int
	at     func(i int) (descriptor, error)
}

// walk follows a chain.
func (t table) walk(m *memory, c *chain, first int) error {
	for i, seen := first, 0; ; seen++ {
		if i >= t.number || seen >= t.number {
			return fmt.Errorf("descriptor %d, the %dth of its chain, of a table that has %d", i, seen+1, t.number)
		}
		d, err := t.at(i)
		if err != nil {
			return err
		}
		if d.Flags&flagIndirect != 0 {
			return indirect(m, c, d)
		}
		if err := c.add(m, d); err != nil {
			return err
		}
		if d.Flags&flagNext == 0 {
			return nil
		}
		i = int(d.Next)
	}
}

// indirect follows a chain that is in a table of its own. There it has to end.
func indirect(m *memory, c *chain, d descriptor) error {
	n := int(d.Length / descriptorSize)
	if d.Flags&flagNext != 0 || d.Length%descriptorSize != 0 || n == 0 || n > maxIndirect {
		return fmt.Errorf("a table of %d bytes of descriptors", d.Length)
	}
	s, err := m.find(d.Address, d.Length)
	if err != nil {
		return err
	}
	all := make([]byte, d.Length)
	if err := m.read(all, s.at); err != nil {
		return err
	}
	return table{n, func(i int) (descriptor, error) {
		d := decode(all[i*descriptorSize:])
		if d.Flags&flagIndirect != 0 {
			return d, errors.New("a table of descriptors in another")
		}
		return d, nil
	}}.walk(m, c, 0)
}
