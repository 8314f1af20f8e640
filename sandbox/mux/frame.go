// SPDX-License-Identifier: Apache-2.0

package mux

import "encoding/binary"

// kind is the type of a frame.
type kind uint8

const (
	kindOpen   kind = 1 + iota // number: the window of the stream
	kindData                   // payload: 1 to MaxPayload bytes
	kindEnd                    // no more data of the sender's
	kindCredit                 // number: how many more bytes the sender will take
	kindClose                  // nothing more of the sender's, who drops what comes
	kindPing                   // number: counts pings
	kindPong                   // number: of the ping that is answered
	kindBye                    // the sender's last frame
)

const (
	headerSize = 8
	numberSize = 4

	// maxFrame is the size in bytes of the longest frame, and of what is
	// written to the transport at once: a guest's driver takes no more in one
	// write (port_fops_write, drivers/char/virtio_console.c).
	maxFrame = 32 << 10

	// MaxPayload is how many bytes a frame carries at most. A buffer of that
	// size is the best one for a copy to a stream.
	MaxPayload = maxFrame - headerSize

	// MaxWindow bounds, in bytes, what a stream may have on the way.
	MaxWindow = 4 << 20

	// MaxStreams is how many streams a session may have at once.
	MaxStreams = 1024

	// firstShared is the first of the streams that take turns among
	// themselves; those below have turns of their own (turns).
	firstShared = 16
)

// shapes says of each kind what its frames have to look like.
var shapes = [...]struct {
	name    string
	number  bool // the payload is a number
	session bool // it is of the session, not of a stream
}{
	kindOpen:   {name: "open", number: true},
	kindData:   {name: "data"},
	kindEnd:    {name: "end"},
	kindCredit: {name: "credit", number: true},
	kindClose:  {name: "close"},
	kindPing:   {name: "ping", number: true, session: true},
	kindPong:   {name: "pong", number: true, session: true},
	kindBye:    {name: "bye", session: true},
}

func (k kind) String() string { return shapes[k].name }

// header is what a frame begins with: stream, kind, a byte that is 0, length.
type header struct {
	stream uint32
	kind   kind
	length int
}

func (h header) put(b []byte) {
	binary.BigEndian.PutUint32(b, h.stream)
	b[4], b[5] = byte(h.kind), 0
	binary.BigEndian.PutUint16(b[6:], uint16(h.length))
}

// putFrame writes a frame without payload and returns its size.
func putFrame(b []byte, stream uint32, k kind) int {
	header{stream, k, 0}.put(b)
	return headerSize
}

// putNumber writes a frame with a number and returns its size.
func putNumber(b []byte, stream uint32, k kind, n uint32) int {
	header{stream, k, numberSize}.put(b)
	binary.BigEndian.PutUint32(b[headerSize:], n)
	return headerSize + numberSize
}

// parseHeader checks what holds for a frame whatever came before it.
func parseHeader(b []byte) (header, error) {
	h := header{stream: binary.BigEndian.Uint32(b), kind: kind(b[4]), length: int(binary.BigEndian.Uint16(b[6:]))}
	if h.kind < kindOpen || h.kind > kindBye {
		if string(b[:headerSize]) == hostMagic {
			return h, violation("it began a session within this one: the guest was restored from a state in which it had one")
		}
		return h, violation("its frame has type %d, which there is not", h.kind)
	}
	shape := shapes[h.kind]
	switch {
	case b[5] != 0:
		return h, violation("its %v frame has flags %#02x, which there are not", h.kind, b[5])
	case shape.session != (h.stream == 0):
		return h, violation("its %v frame is on stream %d", h.kind, h.stream)
	case shape.number && h.length != numberSize:
		return h, violation("its %v frame has %d bytes of payload, not %d", h.kind, h.length, numberSize)
	case h.kind == kindData && (h.length == 0 || h.length > MaxPayload):
		return h, violation("its %v frame has %d bytes of payload, not 1 to %d", h.kind, h.length, MaxPayload)
	case h.kind != kindData && !shape.number && h.length != 0:
		return h, violation("its %v frame has %d bytes of payload, not 0", h.kind, h.length)
	}
	return h, nil
}
