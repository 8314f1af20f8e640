// SPDX-License-Identifier: Apache-2.0

package mux

// write hands to the transport what streams have to send, until the session
// has ended or the last frame was sent. A transport that takes no more does not
// end it: what a guest said before it died may still have to be read.
func (s *Session) write() error {
	buf := make([]byte, maxFrame)
	for {
		n, last, err := s.next(buf)
		if err != nil {
			return err
		}
		if _, err := s.t.Write(buf[:n]); err != nil {
			s.mute(err)
			return nil
		}
		if last {
			return s.saidBye()
		}
	}
}

// mute has nobody wait for the transport to take more. The reader finds its end.
func (s *Session) mute(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = err
	for _, t := range s.streams {
		t.writable.Broadcast()
	}
}

// next waits until there is something to send and puts it into buf: frames, of
// which the last one may be the session's last.
func (s *Session) next(buf []byte) (n int, last bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil {
		if n = s.fillLocked(buf); n > 0 {
			return n, s.phase == left, nil
		}
		s.wake.Wait()
	}
	return 0, false, s.err
}

// fillLocked takes frames of the streams in turn, as many as fit. There are no
// more than maxFrame bytes, so a frame waits for one such write, and for those
// whose turn is before its own.
func (s *Session) fillLocked(buf []byte) int {
	n := s.pings.put(buf)
	for {
		t := s.turns.first()
		if t == nil {
			break
		}
		m, after := t.fillLocked(buf[n:])
		n += m
		if after == noRoom {
			return n
		}
		s.turns.had(t, after == another)
	}
	if s.phase == leaving && len(buf)-n >= headerSize {
		s.phase = left
		n += putFrame(buf[n:], 0, kindBye)
	}
	return n
}

// rest is what a stream has to send after its turn.
type rest int

const (
	nothing rest = iota // or not now
	another             // another turn is needed
	noRoom              // it is still its turn
)

// fillLocked takes the stream's turn: what it has to tell, and one frame of data.
func (t *Stream) fillLocked(buf []byte) (n int, _ rest) {
	if len(buf) < 2*(headerSize+numberSize) {
		return 0, noRoom
	}
	if t.opening {
		t.opening = false
		n += putNumber(buf[n:], t.id, kindOpen, uint32(t.window))
	}
	if t.creditDue() {
		n += putNumber(buf[n:], t.id, kindCredit, uint32(t.owed))
		t.allowed += t.owed
		t.owed = 0
	}
	if size := t.sendable(); size > 0 {
		if headerSize+size > len(buf)-n {
			return n, noRoom // a write that has nothing else has room for any frame
		}
		n += t.putData(buf[n:], size)
	}
	switch {
	case t.sendable() > 0:
		return n, another
	case len(buf)-n < 2*headerSize:
		return n, noRoom
	}
	return n + t.putEnds(buf[n:]), nothing
}

// sendable is how many bytes the stream's next frame of data can have.
func (t *Stream) sendable() int {
	if t.closed || t.inClosed {
		return 0
	}
	return min(len(t.pending), t.credit, MaxPayload)
}

// putData takes size bytes of what a Write wants to send.
func (t *Stream) putData(buf []byte, size int) int {
	header{t.id, kindData, size}.put(buf)
	copy(buf[headerSize:], t.pending[:size])
	t.pending = t.pending[size:]
	t.credit -= size
	if len(t.pending) == 0 {
		t.writable.Broadcast()
	}
	return headerSize + size
}

// putEnds takes what is after the data. A stream that waits to be accepted stays
// open.
func (t *Stream) putEnds(buf []byte) (n int) {
	if t.finished && !t.outEnded && (t.closed || len(t.pending) == 0) {
		t.outEnded = true
		n += putFrame(buf[n:], t.id, kindEnd)
	}
	if (t.closed || t.inClosed) && !t.waiting {
		t.outClosed = true
		n += putFrame(buf[n:], t.id, kindClose)
		t.forgetLocked()
	}
	return n
}
