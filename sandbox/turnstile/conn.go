// SPDX-License-Identifier: Apache-2.0

package turnstile

import (
	"bufio"
	"encoding/binary"
	"net"
	"sync/atomic"
)

// headerSize is that of a ttrpc message: the length of what follows and the
// stream's id, of 4 bytes each, big endian, then a type and flags (PROTOCOL.md
// of github.com/containerd/ttrpc).
const headerSize = 10

// bufferSize holds most requests whole. What does not fit is read into the server's
// own buffer.
const bufferSize = 512

// Conn is the server's end of a connection. One goroutine may read and one write.
type Conn struct {
	net.Conn
	over  <-chan struct{} // closed before the server closes
	in    *bufio.Reader
	taken atomic.Uint32 // the highest id of a request that the server is done with reading
	moved chan struct{} // capacity 1: taken has grown

	// Of the message that is being read.
	unread int // bytes
	id     uint32
	// Of the message that is being written.
	unwritten int // bytes
	answers   bool

	owed atomic.Int64
}

// The types of messages that are counted.
const (
	request  = 1
	response = 2
)

// Owed is how many requests have come that were not answered, to the last byte.
func (c *Conn) Owed() int { return int(c.owed.Load()) }

// New makes a turnstile of a connection. Once over is closed it lets everything
// through: it has to be before the server is closed, which then reads no more.
func New(conn net.Conn, over <-chan struct{}) *Conn {
	return &Conn{Conn: conn, over: over, in: bufio.NewReaderSize(conn, bufferSize), moved: make(chan struct{}, 1)}
}

// Read returns bytes of one message alone, so that the server, whose own buffer
// is empty then, comes back for the next only when it is done with this one.
func (c *Conn) Read(p []byte) (int, error) {
	if c.unread == 0 {
		c.take()
		header, err := c.in.Peek(headerSize)
		if len(header) == 0 {
			return 0, err
		}
		c.unread = len(header) // of a torn one, what there is
		if err == nil {
			var length int
			var kind byte
			length, c.id, kind = parse(header)
			c.unread += length
			if kind == request {
				c.owed.Add(1)
			}
		}
	}
	n, err := c.in.Read(p[:min(len(p), c.unread)])
	c.unread -= n
	return n, err
}

// take notes that the server is done with reading the last message.
func (c *Conn) take() {
	if c.id <= c.taken.Load() {
		return
	}
	c.taken.Store(c.id)
	select {
	case c.moved <- struct{}{}:
	default:
	}
}

// Write holds back the first bytes of an answer until its request was taken. The
// server writes a whole header at once.
func (c *Conn) Write(p []byte) (int, error) {
	if c.unwritten == 0 && len(p) >= headerSize {
		length, id, kind := parse(p)
		c.await(id)
		c.unwritten, c.answers = headerSize+length, kind == response
	}
	n, err := c.Conn.Write(p)
	if c.unwritten = max(0, c.unwritten-n); c.unwritten == 0 && c.answers {
		c.answers = false
		c.answered()
	}
	return n, err
}

// answered counts an answer, but for those that are owed to nobody: the server answers
// data for a stream that it does not know, too. A client that sends such may have an
// answer counted early, its own alone. Nobody else takes from owed.
func (c *Conn) answered() {
	if c.owed.Load() > 0 {
		c.owed.Add(-1)
	}
}

func (c *Conn) await(id uint32) {
	for c.taken.Load() < id {
		select {
		case <-c.moved:
		case <-c.over:
			return
		}
	}
}

func parse(header []byte) (length int, id uint32, kind byte) {
	return int(binary.BigEndian.Uint32(header)), binary.BigEndian.Uint32(header[4:]), header[8]
}
