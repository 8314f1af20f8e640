// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Reply is one message of the kernel's.
type Reply struct {
	Type        uint16
	interrupted bool
	body        []byte
}

// errShort is that of what ends before its end.
var errShort = errors.New("an rtnetlink message is cut off")

// Body is the message without its header.
func (r Reply) Body() []byte { return r.body }

// Header reads the fixed part, and gives the attributes after it.
func (r Reply) Header(v any) (Attributes, error) {
	n, err := binary.Decode(r.body, order, v)
	if err != nil || align(n) > len(r.body) {
		return nil, errShort
	}
	return Parse(r.body[align(n):])
}

// Attributes are those of a message, by kind.
type Attributes map[uint16][]byte

// Parse reads attributes. Of several of a kind the last counts.
func Parse(b []byte) (Attributes, error) {
	all := make(Attributes)
	for len(b) >= unix.SizeofRtAttr {
		n := int(order.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return nil, errShort
		}
		all[order.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = b[unix.SizeofRtAttr:n]
		b = b[min(align(n), len(b)):]
	}
	return all, nil
}

// Uint32 is a number, 0 if it is not there.
func (a Attributes) Uint32(kind uint16) uint32 {
	if b := a[kind]; len(b) >= 4 {
		return order.Uint32(b)
	}
	return 0
}

// String is a text, without the zero that ends it.
func (a Attributes) String(kind uint16) string {
	text, _, _ := strings.Cut(string(a[kind]), "\x00")
	return text
}

// parse hands over the messages of a datagram that answer request seq.
func parse(b []byte, seq uint32, f func(Reply) error) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		var h unix.NlMsghdr
		if _, err := binary.Decode(b, order, &h); err != nil {
			return false, err
		}
		if h.Len < unix.SizeofNlMsghdr || int(h.Len) > len(b) {
			return false, errShort
		}
		body := b[unix.SizeofNlMsghdr:h.Len]
		b = b[min(align(int(h.Len)), len(b)):]
		if h.Seq != seq {
			continue // an answer to a request that was given up
		}
		if h.Type == unix.NLMSG_ERROR {
			return true, errorOf(h, body)
		}
		if err := f(Reply{h.Type, h.Flags&unix.NLM_F_DUMP_INTR != 0, body}); err != nil {
			return false, err
		}
		if h.Type == unix.NLMSG_DONE {
			return true, doneError(body)
		}
	}
	return false, nil
}

// doneError is the error that ended a dump.
func doneError(body []byte) error {
	if len(body) >= 4 && int32(order.Uint32(body)) < 0 {
		return unix.Errno(-int32(order.Uint32(body)))
	}
	return nil
}

// The flags of an answer that say what follows the request's header, and the
// attribute with the kernel's sentence (NLM_F_ and NLMSGERR_ATTR_ of
// linux/netlink.h).
const (
	flagCapped   = 0x100
	flagAckTLVs  = 0x200
	attrSentence = 1
)

// errorOf reads an acknowledgement.
func errorOf(h unix.NlMsghdr, body []byte) error {
	if len(body) < 4+unix.SizeofNlMsghdr {
		return errShort
	}
	errno := -int32(order.Uint32(body))
	if errno == 0 {
		return nil
	}
	if h.Flags&flagAckTLVs != 0 {
		rest := body[4:]
		asked := unix.SizeofNlMsghdr
		if h.Flags&flagCapped == 0 {
			asked = align(int(order.Uint32(rest)))
		}
		if asked >= 0 && asked <= len(rest) {
			if attrs, err := Parse(rest[asked:]); err == nil && attrs.String(attrSentence) != "" {
				return fmt.Errorf("%s: %w", attrs.String(attrSentence), unix.Errno(errno))
			}
		}
	}
	return unix.Errno(errno)
}
