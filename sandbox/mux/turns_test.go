// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"slices"
	"testing"
)

// flooded is a session without goroutines whose streams all have more to send
// than they ever will.
func flooded(t *testing.T, ids ...uint32) (*Session, map[uint32]*Stream) {
	t.Helper()
	s := Host(nil, Config{})
	s.phase = running
	streams := make(map[uint32]*Stream)
	for _, id := range ids {
		st, err := s.Open(t.Context(), id, MaxWindow)
		if err != nil {
			t.Fatal(err)
		}
		st.writing, st.pending = true, make([]byte, MaxWindow)
		streams[id] = st
	}
	return s, streams
}

// sent is what a session puts on the wire: of each frame of data the stream,
// of any other the type.
func sent(t *testing.T, s *Session, room int) (data []uint32, others []kind) {
	t.Helper()
	buf := make([]byte, room)
	n := s.fillLocked(buf)
	for buf = buf[:n]; len(buf) > 0; {
		h, err := parseHeader(buf)
		if err != nil {
			t.Fatal(err)
		}
		if h.kind == kindData {
			data = append(data, h.stream)
		} else {
			others = append(others, h.kind)
		}
		buf = buf[headerSize+h.length:]
	}
	return data, others
}

// Streams with something to send take turns, one frame each, and none has two
// before the others had one.
func TestTurns(t *testing.T) {
	ids := []uint32{16, 17, 18, 19, 20}
	s, _ := flooded(t, ids...)
	for range 2 * len(ids) { // the opens are on the way
		sent(t, s, maxFrame)
	}
	var order []uint32
	for range 4 * len(ids) {
		data, _ := sent(t, s, maxFrame)
		order = append(order, data...)
	}
	for i := 0; i+len(ids) <= len(order); i++ {
		window := slices.Clone(order[i : i+len(ids)])
		slices.Sort(window)
		if !slices.Equal(window, ids) {
			t.Fatalf("turns: %v", order)
		}
	}
}

// The streams that a session is run with have every other turn, however many
// processes write; and not more, however much they have to send themselves.
func TestControlHasEveryOtherTurn(t *testing.T) {
	s, _ := flooded(t, 1, 2, 16, 17, 18, 19)
	for range 10 {
		sent(t, s, maxFrame)
	}
	var order []uint32
	for range 24 {
		data, _ := sent(t, s, 3*maxFrame)
		order = append(order, data...)
	}
	for i := 1; i < len(order); i++ {
		if (order[i-1] < firstShared) == (order[i] < firstShared) {
			t.Fatalf("turns: %v", order)
		}
	}
}

// A ping goes before what a hundred streams have to send; a call after at most
// one more frame.
func TestUrgent(t *testing.T) {
	var ids []uint32
	for id := range uint32(100) {
		ids = append(ids, 16+id)
	}
	s, _ := flooded(t, ids...)
	for range 200 {
		sent(t, s, maxFrame)
	}
	if _, _, err := s.ask(); err != nil {
		t.Fatal(err)
	}
	if _, others := sent(t, s, maxFrame); len(others) != 1 || others[0] != kindPing {
		t.Errorf("first came %v", others)
	}
	call, err := s.Open(t.Context(), 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	call.writing, call.pending = true, make([]byte, 100)
	var order []uint32
	for range 2 {
		data, _ := sent(t, s, maxFrame)
		order = append(order, data...)
	}
	if !slices.Contains(order, 1) {
		t.Errorf("turns: %v", order)
	}
}

// A write to the transport is never longer than what a guest's driver takes at
// once, and a frame as long as that goes in one.
func TestFrameFillsWrite(t *testing.T) {
	s, streams := flooded(t, 16)
	sent(t, s, maxFrame) // the open
	for streams[16].credit > 0 {
		before := streams[16].credit
		data, _ := sent(t, s, maxFrame)
		if n := before - streams[16].credit; len(data) != 1 || n != min(MaxPayload, before) {
			t.Fatalf("a write has %d frames, of %d bytes", len(data), n)
		}
	}
}

// A stream whose frame does not fit any more has the next turn.
func TestNoRoom(t *testing.T) {
	s, streams := flooded(t, 16, 17, 18)
	for range 6 {
		sent(t, s, maxFrame)
	}
	first := s.turns.first()
	second := first.behind
	first.pending = first.pending[:100] // short
	streams[18].pending = streams[18].pending[:MaxPayload]
	if data, _ := sent(t, s, 3000); !slices.Equal(data, []uint32{first.id}) {
		t.Fatalf("turns: %v, and it was the one of %d", data, first.id)
	}
	if data, _ := sent(t, s, maxFrame); !slices.Equal(data, []uint32{second.id}) {
		t.Errorf("turns: %v, and it was the one of %d", data, second.id)
	}
}

// A close goes before the rest of a Write that it ends, whichever side closes.
func TestCloseIsPrompt(t *testing.T) {
	for name, end := range map[string]func(*Stream){
		"here":  func(st *Stream) { _ = st.Close() },
		"there": func(st *Stream) { st.s.mu.Lock(); st.takeCloseLocked(); st.s.mu.Unlock() },
	} {
		s, streams := flooded(t, 16)
		sent(t, s, maxFrame)
		sent(t, s, maxFrame)
		end(streams[16])
		if data, others := sent(t, s, maxFrame); len(data) != 0 || !slices.Equal(others, []kind{kindClose}) {
			t.Errorf("closed %s: %v and data of %v were sent", name, others, data)
		}
	}
}

// Bye is last, and waits for a write that has room.
func TestByeIsLast(t *testing.T) {
	s, streams := flooded(t, 16)
	streams[16].pending = streams[16].pending[:2*MaxPayload]
	if _, _, err := s.ask(); err != nil {
		t.Fatal(err)
	}
	if err := s.advance(running, leaving); err != nil {
		t.Fatal(err)
	}
	if _, others := sent(t, s, headerSize+numberSize); !slices.Equal(others, []kind{kindPing}) {
		t.Errorf("first came %v", others)
	}
	for frames := 0; s.phase != left; {
		data, others := sent(t, s, maxFrame)
		if frames += len(data); slices.Contains(others, kindBye) && frames != 2 {
			t.Errorf("bye came after %d frames of 2", frames)
		}
	}
	s, _ = flooded(t)
	if _, _, err := s.ask(); err != nil {
		t.Fatal(err)
	}
	s.phase = leaving
	for _, want := range []kind{kindPing, kindBye} {
		if _, others := sent(t, s, headerSize+numberSize); !slices.Equal(others, []kind{want}) {
			t.Errorf("%v came, and not %v", others, want)
		}
	}
}
