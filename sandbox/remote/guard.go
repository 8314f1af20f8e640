// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"berth/sandbox/mux"
)

// The header of a ttrpc message (github.com/containerd/ttrpc, PROTOCOL.md):
// length of the data in four bytes, stream in four, type, flags.
const (
	headerSize   = 10
	typeRequest  = 1
	typeResponse = 2
)

// maxAnswer bounds an answer of the agent, in bytes. The longest holds metrics,
// of some kilobytes.
const maxAnswer = 256 << 10

// maxUnanswered bounds the calls that wait for an answer, given up by whoever
// made them or not. An honest guest leaves no more: what takes its time is the
// drain of an output, of which there are no more than streams.
const maxUnanswered = mux.MaxStreams

// guard is the control stream as the client reads it. It lets through one
// answer for each request, of a bounded length: a client that is sent anything
// else would log it, as often as it comes.
type guard struct {
	net.Conn
	broken chan<- error // with room for one: what is wrong

	mu   sync.Mutex
	open map[uint32]bool // requests without an answer

	toWrite int // bytes of the request under way that are yet to be written

	// Of the reader alone.
	header [headerSize]byte
	have   int    // bytes of header that have come
	left   uint32 // bytes of the message that are to come
	out    []byte // of header, that are to be handed on
}

// Write takes note of the requests. The client writes one after the other,
// each beginning with its header, which comes in one piece.
func (g *guard) Write(p []byte) (int, error) {
	if g.toWrite == 0 && len(p) >= headerSize {
		g.toWrite = headerSize + int(binary.BigEndian.Uint32(p))
		if p[8] == typeRequest {
			if err := g.expect(binary.BigEndian.Uint32(p[4:])); err != nil {
				g.tell(err)
				return 0, fmt.Errorf("%w: %w", err, net.ErrClosed) // so that the client closes
			}
		}
	}
	g.toWrite = max(0, g.toWrite-len(p))
	return g.Conn.Write(p)
}

func (g *guard) expect(stream uint32) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.open) >= maxUnanswered {
		return fmt.Errorf("the agent has left %d calls unanswered", len(g.open))
	}
	if g.open == nil {
		g.open = make(map[uint32]bool)
	}
	g.open[stream] = true
	return nil
}

// tell says what is wrong, unless it is known already that something is.
func (g *guard) tell(err error) {
	select {
	case g.broken <- err:
	default:
	}
}

// Read hands on what is in order.
func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(g.out) == 0 && g.left == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if len(g.out) > 0 {
		n := copy(p, g.out)
		g.out = g.out[n:]
		return n, nil
	}
	n, err := g.Conn.Read(p[:min(len(p), int(g.left))])
	g.left -= uint32(n)
	return n, err
}

// next reads the header of the next message and judges it.
func (g *guard) next() error {
	for g.have < headerSize {
		n, err := g.Conn.Read(g.header[g.have:])
		g.have += n
		if err != nil {
			return err
		}
	}
	g.have = 0
	length, stream, kind := binary.BigEndian.Uint32(g.header[:]), binary.BigEndian.Uint32(g.header[4:]), g.header[8]
	g.mu.Lock()
	asked := g.open[stream]
	delete(g.open, stream)
	g.mu.Unlock()
	var err error
	switch {
	case kind != typeResponse:
		err = fmt.Errorf("the agent sent a message of type %d where only answers are due", kind)
	case !asked:
		err = fmt.Errorf("the agent answered call %d, which waits for no answer", stream)
	case length > maxAnswer:
		err = fmt.Errorf("the agent answered with %d bytes; it may be %d", length, maxAnswer)
	}
	if err != nil {
		g.tell(err)
		return err
	}
	g.left, g.out = length, g.header[:]
	return nil
}
