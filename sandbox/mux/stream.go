// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

var _ net.Conn = (*Stream)(nil)

// Stream is one stream of a session. Its methods may be called at once; writes
// come one after the other. Whoever opened or accepted it has to close it.
type Stream struct {
	s      *Session
	id     uint32
	window int

	readable, writable sync.Cond // with s.mu

	// s.mu guards what follows.

	in       inbox
	allowed  int  // bytes that the peer may send
	owed     int  // bytes that were read, and are to be allowed again
	inEnded  bool // the peer has ended its data
	inClosed bool // the peer has closed the stream

	writing   bool   // a Write is under way
	pending   []byte // what it has not sent yet
	credit    int    // bytes that the peer takes
	finished  bool   // CloseWrite was called
	closed    bool   // Close was called
	outEnded  bool   // end was sent
	outClosed bool   // close was sent

	opening bool    // open is to be sent
	waiting bool    // for Accept
	queued  bool    // is in s.turns
	behind  *Stream // there, the next one

	readBy, writeBy deadline

	hungUp chan struct{} // nil until somebody wants to know
}

// ID is the stream's number.
func (t *Stream) ID() uint32 { return t.id }

// Read returns what has come. Then it is io.EOF if the peer has ended its data,
// and another error if the stream or the session ended before it did.
func (t *Stream) Read(p []byte) (int, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for {
		switch {
		case t.closed:
			return 0, fmt.Errorf("read stream %d: %w", t.id, net.ErrClosed)
		case t.readBy.passed:
			return 0, fmt.Errorf("read stream %d: %w", t.id, os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case t.in.size > 0:
			n := t.in.take(p, &t.s.chunks)
			t.owed += n
			if t.creditDue() {
				t.queueLocked()
			}
			return n, nil
		case t.inEnded:
			return 0, io.EOF
		case t.inClosed:
			return 0, fmt.Errorf("read stream %d, which the other end has closed before its end: %w", t.id, io.ErrUnexpectedEOF)
		case t.s.err != nil:
			return 0, fmt.Errorf("read stream %d: %w", t.id, t.s.err)
		}
		t.readable.Wait()
	}
}

// creditDue tells whether the peer is to hear what was read: when it is half of
// the window, so that it neither stops nor is told of every byte.
func (t *Stream) creditDue() bool {
	return t.owed >= (t.window+1)/2 && !t.inEnded && !t.inClosed && !t.closed
}

// Write returns when p has been put into frames, or with an error and the number
// of bytes that were. It waits for the transport and for the peer to read.
func (t *Stream) Write(p []byte) (int, error) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for {
		if err := t.refusesLocked(true); err != nil || len(p) == 0 {
			return 0, err
		}
		if !t.writing {
			break
		}
		t.writable.Wait()
	}
	t.writing, t.pending = true, p
	t.queueLocked()
	var err error
	for len(t.pending) > 0 {
		if err = t.refusesLocked(false); err != nil {
			break
		}
		t.writable.Wait()
	}
	n := len(p) - len(t.pending)
	t.writing, t.pending = false, nil
	t.writable.Broadcast()
	if t.finished {
		t.queueLocked() // an end may have waited for it
	}
	return n, err
}

// refusesLocked is why a Write ends, or does not even begin.
func (t *Stream) refusesLocked(begins bool) error {
	var err error
	switch {
	case t.closed || begins && t.finished:
		err = net.ErrClosed
	case t.s.err != nil:
		err = t.s.err
	case t.s.muted != nil:
		err = t.s.muted
	case t.inClosed:
		err = fmt.Errorf("the other end has closed it: %w", io.ErrClosedPipe)
	case begins && t.s.phase > running:
		err = fmt.Errorf("the session is being shut down: %w", net.ErrClosed)
	case t.writeBy.passed:
		err = os.ErrDeadlineExceeded
	default:
		return nil
	}
	return fmt.Errorf("write stream %d: %w", t.id, err)
}

// CloseWrite has the peer read io.EOF after what was written. Nothing can be
// written any more.
func (t *Stream) CloseWrite() error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.finished && !t.closed {
		return nil
	}
	if err := t.refusesLocked(false); err != nil && !t.writeBy.passed {
		return err
	}
	t.finished = true
	t.queueLocked()
	return nil
}

// Close ends both directions; reads and writes under way return. What was
// written is still sent, but unless CloseWrite was called first, the peer reads
// an error after it and not io.EOF.
func (t *Stream) Close() error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if len(t.pending) > 0 {
		t.finished = false // the peer is not to take for all what is only a part
	}
	t.in.drop(&t.s.chunks)
	t.readBy.stop()
	t.writeBy.stop()
	t.readable.Broadcast()
	t.writable.Broadcast()
	t.queueLocked()
	return nil
}

// queueLocked has the writer look at the stream when it is its turn.
func (t *Stream) queueLocked() {
	if !t.queued && !t.outClosed && t.s.err == nil {
		t.s.turns.push(t)
		t.s.wake.Signal()
	}
}

// forgetLocked frees the number of a stream that both ends have closed.
func (t *Stream) forgetLocked() {
	if t.inClosed && t.outClosed {
		delete(t.s.streams, t.id)
	}
}
