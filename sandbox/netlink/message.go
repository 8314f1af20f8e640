// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// order is the kernel's: the machine's own.
var order = binary.NativeEndian

// Message is a request.
type Message struct {
	Type  uint16 // RTM_
	Flags uint16 // NLM_F_, beside those that the way of sending needs
	body  []byte
}

// New begins a message of a type with its fixed part, a struct of the kernel's
// (or bytes, as they are).
func New(kind, flags uint16, header any) *Message {
	m := &Message{Type: kind, Flags: flags, body: Struct(header)}
	m.pad()
	return m
}

// Struct is a struct of fixed size as the kernel has it.
func Struct(v any) []byte {
	b, err := binary.Append(nil, order, v)
	if err != nil {
		panic(err) // of the type, which the program fixes
	}
	return b
}

// Add appends an attribute: bytes as they are, a string with the zero that ends
// one, or a struct or number.
func (m *Message) Add(kind uint16, value any) {
	var data []byte
	switch v := value.(type) {
	case []byte:
		data = v
	case string:
		data = append([]byte(v), 0)
	default:
		data = Struct(value)
	}
	m.body = order.AppendUint16(m.body, uint16(unix.SizeofRtAttr+len(data)))
	m.body = order.AppendUint16(m.body, kind)
	m.body = append(m.body, data...)
	m.pad()
}

// Nest appends an attribute that has the attributes which fill adds.
func (m *Message) Nest(kind uint16, fill func()) {
	at := len(m.body)
	m.Add(kind|unix.NLA_F_NESTED, []byte{})
	fill()
	order.PutUint16(m.body[at:], uint16(len(m.body)-at))
}

// Body is the message without its header.
func (m *Message) Body() []byte { return m.body }

func (m *Message) pad() { m.body = append(m.body, make([]byte, align(len(m.body))-len(m.body))...) }

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

func (m *Message) encode(flags uint16, seq uint32) []byte {
	return append(Struct(unix.NlMsghdr{
		Len: uint32(unix.SizeofNlMsghdr + len(m.body)), Type: m.Type, Flags: m.Flags | flags, Seq: seq,
	}), m.body...)
}
