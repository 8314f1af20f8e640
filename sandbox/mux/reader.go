// SPDX-License-Identifier: Apache-2.0

package mux

import "encoding/binary"

// read takes frames until the peer has said bye, hangs up or errs.
func (s *Session) read() error {
	for {
		b, err := s.in.Peek(headerSize)
		if err != nil {
			return ended(err, len(b))
		}
		h, err := parseHeader(b)
		if err != nil {
			return err
		}
		if b, err = s.in.Peek(headerSize + h.length); err != nil {
			return ended(err, len(b))
		}
		if err = s.take(h, b[headerSize:]); err != nil {
			return err
		}
		_, _ = s.in.Discard(len(b))
		if h.kind == kindBye {
			return s.heardBye()
		}
	}
}

// take does what one frame says. Whatever the peer may send is paid for by what
// this side has sent or granted before, so it cannot keep it busy at will.
func (s *Session) take(h header, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch h.kind {
	case kindOpen:
		return s.takeOpenLocked(h.stream, binary.BigEndian.Uint32(payload))
	case kindPing:
		return s.takePingLocked(binary.BigEndian.Uint32(payload))
	case kindPong:
		return s.takePongLocked(binary.BigEndian.Uint32(payload))
	case kindBye:
		return nil
	}
	t := s.streams[h.stream]
	switch {
	case t == nil:
		return violation("its %v frame is on stream %d, which is not open", h.kind, h.stream)
	case t.inClosed:
		return violation("its %v frame is on stream %d, which it has closed", h.kind, h.stream)
	}
	switch h.kind {
	case kindData:
		return t.takeDataLocked(payload)
	case kindEnd:
		return t.takeEndLocked()
	case kindCredit:
		return t.takeCreditLocked(binary.BigEndian.Uint32(payload))
	}
	t.takeCloseLocked()
	return nil
}

func (s *Session) takeOpenLocked(id, window uint32) error {
	switch {
	case !s.guest:
		return violation("a guest opened stream %d", id)
	case s.streams[id] != nil:
		return violation("stream %d was opened and is open", id)
	case window < 1 || window > MaxWindow:
		return violation("stream %d was opened with a window of %d bytes, not 1 to %d", id, window, MaxWindow)
	case len(s.streams) >= s.most:
		return violation("stream %d was opened, with %d open and no more allowed", id, len(s.streams))
	}
	t := s.newStreamLocked(id, int(window))
	t.waiting = true
	s.accepted <- t // has room: what it holds is among s.streams, see accept
	return nil
}

func (t *Stream) takeDataLocked(payload []byte) error {
	switch {
	case t.inEnded:
		return violation("data is on stream %d after its end", t.id)
	case len(payload) > t.allowed:
		return violation("%d bytes are on stream %d, of whose window of %d are %d left", len(payload), t.id, t.window, t.allowed)
	}
	t.allowed -= len(payload)
	if !t.closed {
		t.in.put(payload, &t.s.chunks)
		t.readable.Broadcast()
	}
	return nil
}

func (t *Stream) takeEndLocked() error {
	if t.inEnded {
		return violation("stream %d has a second end", t.id)
	}
	t.inEnded = true
	t.readable.Broadcast()
	return nil
}

func (t *Stream) takeCreditLocked(n uint32) error {
	if n == 0 || int64(n) > int64(t.window-t.credit) {
		return violation("stream %d is credited with %d bytes, %d of its window of %d being on the way", t.id, n, t.window-t.credit, t.window)
	}
	t.credit += int(n)
	if len(t.pending) > 0 {
		t.queueLocked()
	}
	return nil
}

// takeCloseLocked closes this side as well: nothing that it could send would
// be of use any more. What has come can still be read.
func (t *Stream) takeCloseLocked() {
	t.hangUpLocked()
	t.inClosed = true
	t.readable.Broadcast()
	t.writable.Broadcast()
	t.queueLocked()
	t.forgetLocked()
}
