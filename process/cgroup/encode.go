// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages are encoded by hand: the generated packages would bring
// protobuf's reflection tables into every idle shim, and each call would build
// a tree of objects. Protobuf allows fields in any order, so that a field goes
// out as soon as its line is parsed.

// appendUint appends a uint64 field; zero is proto3's default and left out.
func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// appendDouble appends a double field.
func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.Fixed64Type)
	return protowire.AppendFixed64(b, math.Float64bits(v))
}

// appendText appends a string field, made of two parts.
func appendText(b []byte, field protowire.Number, prefix string, text []byte) []byte {
	if len(prefix)+len(text) == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(prefix)+len(text)))
	return append(append(b, prefix...), text...)
}

// openMessage starts a sub-message (or a packed list); its contents are appended until
// closeMessage is called with the mark.
func openMessage(b []byte, field protowire.Number) (out []byte, mark int) {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return b, len(b)
}

// closeMessage puts the length in front of what was appended since openMessage.
func closeMessage(b []byte, mark int) []byte {
	var prefix [10]byte
	length := protowire.AppendVarint(prefix[:0], uint64(len(b)-mark))
	b = append(b, length...)
	copy(b[mark+len(length):], b[mark:len(b)-len(length)])
	copy(b[mark:], length)
	return b
}

// appendPairs appends the fields of a flat keyed file that number knows.
func appendPairs(b, text []byte, number func(key []byte) protowire.Number) []byte {
	for {
		key, value, rest, ok := nextPair(text)
		if !ok {
			return b
		}
		if n := number(key); n != 0 {
			b = appendUint(b, n, value)
		}
		text = rest
	}
}
