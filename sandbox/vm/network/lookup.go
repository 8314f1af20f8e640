// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Numbers of linux/bpf.h, and of the instruction set (bpf/standardization).
const (
	opLoad     = 0x61 // target = *(u32 *)(source + offset)
	opStore    = 0x62 // *(u32 *)(target + offset) = number
	opMove     = 0xbf // target = source
	opSet      = 0xb7 // target = number
	opAdd      = 0x07
	opAnd      = 0x57
	opUnequal  = 0x55 // jump if target != number
	opEqual    = 0x15
	opCall     = 0x85
	opExit     = 0x95
	opWide     = 0x18 // a map's descriptor, in two instructions
	sourceMap  = 1    // BPF_PSEUDO_MAP_FD
	lookupElem = 1    // BPF_FUNC_map_lookup_elem
	skAssign   = 124  // BPF_FUNC_sk_assign
	skRelease  = 86   // BPF_FUNC_sk_release
	skPass     = 1    // SK_PASS

	// Offsets in struct bpf_sk_lookup, whose addresses are in network byte order.
	ctxFamily   = 8
	ctxProtocol = 12
	ctxIPv4     = 40
	ctxIPv6     = 44
)

// code is a BPF program on its way. Jumps lead to its end, where everything goes
// where it would without it.
type code struct {
	bytes []byte
	jumps []int // instructions that lead to the end
}

func (c *code) add(op, target, source byte, offset int16, number int32) {
	c.bytes = append(c.bytes, op, source<<4|target)
	c.bytes = binary.NativeEndian.AppendUint16(c.bytes, uint16(offset))
	c.bytes = binary.NativeEndian.AppendUint32(c.bytes, uint32(number))
}

func (c *code) len() int { return len(c.bytes) / 8 }

// leave leaves the program if the register is, or is not, the number.
func (c *code) leave(op, register byte, number int32) {
	c.jumps = append(c.jumps, c.len())
	c.add(op, register, 0, 0, number)
}

// want leaves the program unless a field of the context, of which mask counts, is
// the number.
func (c *code) want(field int16, mask, number int32) {
	c.add(opLoad, 2, 6, field, 0)
	if mask != -1 {
		c.add(opAnd, 2, 0, 0, mask)
	}
	c.leave(opUnequal, 2, number)
}

// lookupProgram chooses the socket of a map for what goes to the loopback addresses
// of a family: 127.0.0.0/8 or ::1 (Documentation/bpf/prog_sk_lookup.rst).
func lookupProgram(family int32, sockets int) []byte {
	c := new(code)
	c.add(opMove, 6, 1, 0, 0) // r6 = the context
	c.want(ctxProtocol, -1, unix.IPPROTO_TCP)
	c.want(ctxFamily, -1, family)
	if family == unix.AF_INET {
		c.want(ctxIPv4, first(0xff), first(127))
	} else {
		for word := range int16(3) {
			c.want(ctxIPv6+4*word, -1, 0)
		}
		c.want(ctxIPv6+12, -1, last(1))
	}
	c.add(opStore, 10, 0, -4, 0) // the key, on the stack
	c.add(opMove, 2, 10, 0, 0)
	c.add(opAdd, 2, 0, 0, -4)
	c.add(opWide, 1, sourceMap, 0, int32(sockets))
	c.add(0, 0, 0, 0, 0)
	c.add(opCall, 0, 0, 0, lookupElem)
	c.leave(opEqual, 0, 0)
	c.add(opMove, 7, 0, 0, 0) // r7 = the socket
	c.add(opMove, 1, 6, 0, 0)
	c.add(opMove, 2, 7, 0, 0)
	c.add(opSet, 3, 0, 0, 0)
	c.add(opCall, 0, 0, 0, skAssign)
	c.add(opMove, 1, 7, 0, 0)
	c.add(opCall, 0, 0, 0, skRelease)
	for _, at := range c.jumps {
		binary.NativeEndian.PutUint16(c.bytes[at*8+2:], uint16(c.len()-at-1))
	}
	c.add(opSet, 0, 0, 0, skPass)
	c.add(opExit, 0, 0, 0, 0)
	return c.bytes
}

// first and last are a number as the first and the last byte of an address.
func first(b byte) int32 { return int32(binary.NativeEndian.Uint32([]byte{b, 0, 0, 0})) }
func last(b byte) int32  { return int32(binary.NativeEndian.Uint32([]byte{0, 0, 0, b})) }
