// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"encoding/binary"
	"io"
)

// maxUrgent bounds the frames that wait to be sent: a peer that makes us
// answer, and does not read the answers, is at fault.
const maxUrgent = 64 << 10

// write sends what there is to send, a frame at a time, in turn.
func (s *Session) write() error {
	buf := make([]byte, headerSize+maxPayload)
	for {
		n := s.next(buf)
		if n == 0 {
			return s.Err()
		}
		if _, err := s.t.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// next waits for a frame and puts it into buf; 0 at the end of the session.
func (s *Session) next(buf []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended:
			return 0
		case len(s.urgent) > 0:
			f := s.urgent[0]
			if s.urgent = s.urgent[1:]; len(s.urgent) == 0 {
				s.urgent = nil
			}
			f.put(buf)
			return headerSize + copy(buf[headerSize:], f.payload[:f.length])
		case len(s.ready) > 0:
			st := s.ready[0]
			s.ready = s.ready[1:]
			st.queued = false
			if n := st.takeLocked(buf); n > 0 {
				return n
			}
		default:
			s.wake.Wait()
		}
	}
}

// read takes frames to the end of the session.
func (s *Session) read() error {
	var head [headerSize]byte
	payload := make([]byte, maxPayload)
	for {
		if _, err := io.ReadFull(s.in, head[:]); err != nil {
			return err
		}
		h, err := parseHeader(&head)
		if err != nil {
			return broken("%w", err)
		}
		if _, err := io.ReadFull(s.in, payload[:h.length]); err != nil {
			return err
		}
		if err := s.take(h, payload[:h.length]); err != nil {
			return err
		}
	}
}

// take deals with one frame. It waits for nobody.
func (s *Session) take(h header, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[h.stream]
	switch h.kind {
	case kindPing:
		if len(s.urgent) >= maxUrgent {
			return broken("%d answers wait to be read", len(s.urgent))
		}
		f := frame{header: header{0, kindPong, 8}}
		copy(f.payload[:], payload)
		s.sendLocked(f)
	case kindPong:
		if answered := s.pings[binary.BigEndian.Uint64(payload)]; answered != nil {
			delete(s.pings, binary.BigEndian.Uint64(payload))
			close(answered)
		}
	case kindOpen:
		return s.takeOpenLocked(h.stream, st, int(binary.BigEndian.Uint32(payload)))
	default:
		if st != nil {
			return st.takeFrameLocked(h.kind, payload)
		}
		// Of a stream that was closed here, frames may be on the way still.
		if !s.guest && !s.wasOpenedLocked(h.stream) {
			return broken("a frame on stream %d, which was never opened", h.stream)
		}
	}
	return nil
}

func (s *Session) takeOpenLocked(id uint32, exists *Stream, window int) error {
	switch {
	case !s.guest:
		return broken("a guest opens stream %d", id)
	case exists != nil || window <= 0 || window > maxWindow || len(s.streams) >= s.most:
		return broken("stream %d is opened with a window of %d, %d being open", id, window, len(s.streams))
	}
	st := newStream(s, id, window)
	s.streams[id] = st
	select {
	case s.accepted <- st:
		return nil
	default: // more were opened and closed than anybody accepted
		return broken("%d streams wait to be accepted", len(s.accepted))
	}
}

// wasOpenedLocked is true for what the host may have opened at some time.
func (s *Session) wasOpenedLocked(id uint32) bool { return id <= s.highest }
