// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

var _ net.Conn = (*Stream)(nil)

// Stream is one stream of a session. Reads, and writes, that are made at once
// come one after the other.
type Stream struct {
	s      *Session
	id     uint32
	window int

	reading, writing sync.Mutex

	// s.mu guards what follows.
	news    chan struct{} // closed and replaced when any of it changes
	buf     []byte        // came and was not read
	owed    int           // was read, and not yet credited
	ended   bool          // the peer writes no more
	reset   bool          // the peer has closed it
	closed  bool          // closed here
	finish  bool          // CloseWrite was called
	ending  bool          // and its frame was sent
	credit  int           // bytes that may be sent
	pending []byte        // to be sent, of the Write that waits
	queued  bool          // in s.ready

	readBy, writeBy deadline
}

func newStream(s *Session, id uint32, window int) *Stream {
	if !s.guest {
		s.highest = max(s.highest, id)
	}
	return &Stream{s: s, id: id, window: window, credit: window, news: make(chan struct{})}
}

// ID is the stream's number.
func (t *Stream) ID() uint32 { return t.id }

// changed wakes whoever waits for news of the stream. s.mu is held.
func (t *Stream) changed() {
	close(t.news)
	t.news = make(chan struct{})
}

// Read returns what has come, io.EOF once the peer has ended its side, and an
// error if it, or the session, did not get that far.
func (t *Stream) Read(p []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	for {
		t.s.mu.Lock()
		n, err := t.readLocked(p)
		news := t.news
		late := t.readBy.late
		t.s.mu.Unlock()
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		select {
		case <-news:
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (t *Stream) readLocked(p []byte) (int, error) {
	switch {
	case t.closed:
		return 0, net.ErrClosed
	case len(t.buf) > 0:
		n := copy(p, t.buf)
		if t.buf = t.buf[n:]; len(t.buf) == 0 {
			t.buf = nil // an idle stream holds no memory
		}
		if t.owed += n; t.owed >= t.window/2 && !t.ended && !t.reset && !t.s.ended {
			f := frame{header: header{t.id, kindCredit, 4}}
			binary.BigEndian.PutUint32(f.payload[:], uint32(t.owed))
			t.owed = 0
			t.s.sendLocked(f)
		}
		return n, nil
	case t.ended:
		return 0, io.EOF
	case t.reset:
		return 0, fmt.Errorf("stream %d was closed by the other end: %w", t.id, io.ErrUnexpectedEOF)
	case t.s.ended:
		return 0, t.s.err
	}
	return 0, nil
}

// Write returns when all was handed to the transport.
func (t *Stream) Write(p []byte) (int, error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.finish {
		return 0, fmt.Errorf("write to stream %d after its end: %w", t.id, net.ErrClosed)
	}
	t.pending = p
	t.queueLocked()
	for len(t.pending) > 0 {
		var err error
		switch {
		case t.closed:
			err = net.ErrClosed
		case t.reset:
			err = fmt.Errorf("stream %d was closed by the other end: %w", t.id, io.ErrClosedPipe)
		case t.s.ended:
			err = t.s.err
		}
		if err == nil {
			news, late := t.news, t.writeBy.late
			t.s.mu.Unlock()
			select {
			case <-news:
			case <-late:
				err = os.ErrDeadlineExceeded
			}
			t.s.mu.Lock()
		}
		if err != nil && len(t.pending) > 0 {
			n := len(p) - len(t.pending)
			t.pending = nil
			return n, err
		}
	}
	return len(p), nil
}

// queueLocked has the writer look at the stream.
func (t *Stream) queueLocked() {
	if !t.queued && !t.s.ended {
		t.queued = true
		t.s.ready = append(t.s.ready, t)
		t.s.wake.Signal()
	}
}

// takeLocked puts the stream's next frame into buf; 0 if there is none now.
func (t *Stream) takeLocked(buf []byte) int {
	if t.closed || t.reset {
		return 0
	}
	if n := min(len(t.pending), t.credit, sentPayload); n > 0 {
		header{t.id, kindData, n}.put(buf)
		copy(buf[headerSize:], t.pending[:n])
		t.pending = t.pending[n:]
		t.credit -= n
		if len(t.pending) == 0 {
			t.changed()
		}
		if len(t.pending) > 0 && t.credit > 0 || t.finish {
			t.queueLocked()
		}
		return headerSize + n
	}
	if t.finish && !t.ending && len(t.pending) == 0 {
		t.ending = true
		header{t.id, kindEnd, 0}.put(buf)
		return headerSize
	}
	return 0
}

// takeFrameLocked deals with a frame of the peer's.
func (t *Stream) takeFrameLocked(k kind, payload []byte) error {
	switch k {
	case kindData:
		if t.ended || t.reset {
			return broken("data on stream %d after its end", t.id)
		}
		if len(t.buf)+t.owed+len(payload) > t.window {
			return broken("%d bytes on stream %d, whose window of %d has %d left", len(payload), t.id, t.window, t.window-len(t.buf)-t.owed)
		}
		t.buf = append(t.buf, payload...)
	case kindEnd:
		if t.ended || t.reset {
			return broken("stream %d is ended twice", t.id)
		}
		t.ended = true
	case kindReset:
		t.reset = true
	case kindCredit:
		n := int(binary.BigEndian.Uint32(payload))
		if n <= 0 || t.credit+n > t.window {
			return broken("stream %d is credited with %d bytes, %d of %d being free", t.id, n, t.credit, t.window)
		}
		t.credit += n
		if len(t.pending) > 0 {
			t.queueLocked()
		}
		return nil
	}
	t.changed()
	return nil
}

// CloseWrite has the peer read an end once it has read what was written.
func (t *Stream) CloseWrite() error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	switch {
	case t.closed || t.reset:
		return net.ErrClosed
	case t.s.ended:
		return t.s.err
	case !t.finish:
		t.finish = true
		t.queueLocked()
	}
	return nil
}

// Close ends both sides. What was written and not sent yet is lost, what comes
// is dropped.
func (t *Stream) Close() error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	t.buf = nil
	delete(t.s.streams, t.id)
	if !t.s.ended && !(t.ending && t.ended) && !t.reset {
		t.s.sendLocked(frame{header: header{t.id, kindReset, 0}})
	}
	t.changed()
	return nil
}

// LocalAddr and RemoteAddr are for what wants a net.Conn.
func (t *Stream) LocalAddr() net.Addr { return addr(t.id) }

// RemoteAddr is the same.
func (t *Stream) RemoteAddr() net.Addr { return addr(t.id) }

type addr uint32

func (addr) Network() string  { return "mux" }
func (a addr) String() string { return fmt.Sprintf("stream %d", uint32(a)) }

// SetDeadline sets both deadlines.
func (t *Stream) SetDeadline(d time.Time) error {
	_ = t.SetReadDeadline(d)
	return t.SetWriteDeadline(d)
}

// SetReadDeadline ends reads, those under way included, at a time.
func (t *Stream) SetReadDeadline(d time.Time) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.readBy.set(d)
	t.changed()
	return nil
}

// SetWriteDeadline does so for writes.
func (t *Stream) SetWriteDeadline(d time.Time) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.writeBy.set(d)
	t.changed()
	return nil
}

// deadline is a time after which its channel is closed.
type deadline struct {
	timer *time.Timer
	late  chan struct{}
}

func (d *deadline) set(at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.late = nil, nil
	if at.IsZero() {
		return
	}
	late := make(chan struct{})
	d.late = late
	if wait := time.Until(at); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(late) })
	} else {
		close(late)
	}
}
