// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"encoding/binary"
	"fmt"
)

// kind is the type of a frame.
type kind uint8

const (
	kindOpen   kind = 1 // payload: the window, in four bytes
	kindData   kind = 2
	kindEnd    kind = 3 // the sender writes no more
	kindCredit kind = 4 // payload: by how many bytes the window is free again, in four bytes
	kindReset  kind = 5 // the sender neither reads nor writes any more
	kindPing   kind = 6 // stream 0; payload: eight bytes that come back
	kindPong   kind = 7
)

const (
	headerSize = 8
	maxPayload = 32 << 10
	// sentPayload makes a frame of what the port's driver puts into one of its
	// buffers (32 KiB, drivers/char/virtio_console.c): with 8 bytes more each
	// frame would take two.
	sentPayload = maxPayload - headerSize
	// maxWindow bounds what a stream may have on the way.
	maxWindow = 4 << 20
)

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

// parseHeader checks what a frame may be whatever came before it.
func parseHeader(b *[headerSize]byte) (header, error) {
	h := header{stream: binary.BigEndian.Uint32(b[:]), kind: kind(b[4]), length: int(binary.BigEndian.Uint16(b[6:]))}
	want := 0
	switch h.kind {
	case kindData:
		if h.length == 0 || h.length > maxPayload {
			return h, fmt.Errorf("a frame of %d bytes; it may have 1 to %d", h.length, maxPayload)
		}
		want = h.length
	case kindOpen, kindCredit:
		want = 4
	case kindPing, kindPong:
		want = 8
	case kindEnd, kindReset:
	default:
		return h, fmt.Errorf("a frame of kind %d, which there is not", h.kind)
	}
	onSession := h.kind == kindPing || h.kind == kindPong
	switch {
	case b[5] != 0:
		return h, fmt.Errorf("a frame with flags %#x, which there are not", b[5])
	case h.length != want:
		return h, fmt.Errorf("a frame of kind %d with %d bytes; it has %d", h.kind, h.length, want)
	case onSession != (h.stream == 0):
		return h, fmt.Errorf("a frame of kind %d on stream %d", h.kind, h.stream)
	}
	return h, nil
}
