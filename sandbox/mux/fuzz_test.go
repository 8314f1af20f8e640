// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// heard is a transport that was sent this much and then hung up.
type heard struct {
	io.Reader
	said []byte
}

func (h *heard) Write(p []byte) (int, error) {
	h.said = append(h.said, p...)
	return len(p), nil
}

func (h *heard) Close() error { return nil }

// seeds are what peers may send, well or badly.
func seeds(f *testing.F) {
	for _, sent := range anybody {
		f.Add(sent)
	}
	opened := frame(17, kindOpen, number(100))
	for _, sent := range []string{
		"",
		frame(16, kindData, "hello") + frame(16, kindEnd, "") + frame(16, kindClose, ""),
		frame(16, kindCredit, number(50)) + frame(16, kindData, strings.Repeat("x", 100)),
		opened + frame(17, kindData, "x") + frame(17, kindClose, "") + opened,
		opened + frame(17, kindCredit, number(1)),
		frame(0, kindPing, number(3)) + frame(0, kindPing, number(9)) + frame(0, kindBye, ""),
		frame(0, kindPong, number(1)) + frame(0, kindPong, number(2)),
		frame(0, kindPong, number(2)) + frame(0, kindBye, ""),
	} {
		f.Add(sent)
	}
}

// attacked is a session with stream 16 of 100 bytes, of which 50 were sent, two
// pings that were, and a peer that sends this.
func attacked(t *testing.T, guest bool, sent string) *Session {
	t.Helper()
	s := newSession(&heard{Reader: strings.NewReader(sent)}, Config{MaxStreams: 2}, guest)
	s.phase = running
	s.mu.Lock()
	st := s.newStreamLocked(16, 100)
	st.credit = 50
	if !guest {
		s.pings.asked, s.pings.sent = 2, 2
	}
	s.mu.Unlock()
	err := s.read()
	if err != nil && !errors.Is(err, ErrProtocol) && !strings.Contains(err.Error(), "hung up") {
		t.Fatalf("it ended because of: %v", err)
	}
	return s
}

// held is checked whatever was sent: no more is held than there are windows,
// and no more is said than was asked for.
func held(t *testing.T, s *Session) {
	t.Helper()
	if len(s.streams) > 2 || len(s.accepted) > 2 {
		t.Fatalf("%d streams, %d to accept", len(s.streams), len(s.accepted))
	}
	for _, st := range s.streams {
		if st.in.size > st.window || st.in.size+st.allowed > st.window {
			t.Fatalf("%d bytes are held of a window of %d, and %d allowed", st.in.size, st.window, st.allowed)
		}
		if st.credit > st.window {
			t.Fatalf("a credit of %d bytes of a window of %d", st.credit, st.window)
		}
	}
	buf := make([]byte, maxFrame)
	if n := s.fillLocked(buf); n > headerSize+numberSize+3*headerSize { // a pong, closes or a bye
		t.Fatalf("%d bytes are said: %x", n, buf[:n])
	}
	if n := s.fillLocked(buf); n != 0 && s.phase != left { // after which the writer ends
		t.Fatalf("%d bytes more are said: %x", n, buf[:n])
	}
}

// FuzzHost has a host hear anything from its guest, which opens nothing.
func FuzzHost(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, sent string) {
		s := attacked(t, false, sent)
		if len(s.streams) > 1 || s.phase != running {
			t.Fatalf("%d streams, phase %d", len(s.streams), s.phase)
		}
		held(t, s)
	})
}

// FuzzGuest has a guest hear anything from its host.
func FuzzGuest(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, sent string) { held(t, attacked(t, true, sent)) })
}

// FuzzGreeting has either side look for a greeting in anything. A guest's
// answer is of the greeting that there was; a host takes none but its own.
func FuzzGreeting(f *testing.F) {
	for _, magic := range []string{hostMagic, guestMagic} {
		for _, old := range leftovers(magic) {
			f.Add(old + string(greeting{magic, [16]byte{1, 2, 3}, version}.bytes()))
		}
	}
	f.Fuzz(func(t *testing.T, sent string) {
		there := &heard{Reader: strings.NewReader(sent)}
		host := Host(there, Config{})
		if err := host.Handshake(context.Background()); err == nil {
			t.Fatal("a greeting was guessed")
		}
		there = &heard{Reader: strings.NewReader(sent)}
		guest := Guest(there, Config{})
		if guest.Handshake(context.Background()) == nil || len(there.said) > 0 {
			g := greeting{hostMagic, [16]byte(there.said[len(guestMagic):]), there.said[greetingSize-5]}
			if g.version = version; !strings.Contains(sent, string(g.bytes()[:len(hostMagic)+16])) {
				t.Fatalf("%x answers nothing in %x", there.said, sent)
			}
		}
		_ = guest.Close()
	})
}
