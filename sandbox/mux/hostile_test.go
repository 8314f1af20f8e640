// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// frame is one of any kind, valid or not.
func frame(stream uint32, k kind, payload string) string {
	b := make([]byte, headerSize)
	header{stream, k, len(payload)}.put(b)
	return string(b) + payload
}

func number(n uint32) string { return string(binary.BigEndian.AppendUint32(nil, n)) }

// hosted is a host with a stream of 100 bytes, and the wire of its guest.
func hosted(t testing.TB) (host *Session, near *Stream, guest net.Conn) {
	t.Helper()
	a, b := wires(t)
	host = Host(a, Config{MaxStreams: 2})
	t.Cleanup(func() { _ = host.Close() })
	go func() {
		got := make([]byte, greetingSize)
		_, _ = io.ReadFull(b, got)
		copy(got, guestMagic)
		_, _ = b.Write(greeting{guestMagic, [16]byte(got[len(hostMagic):]), version}.bytes())
	}()
	if err := host.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	near, err := host.Open(context.Background(), 16, 100)
	if err != nil {
		t.Fatal(err)
	}
	return host, near, b
}

// guested is a guest and the wire of its host.
func guested(t testing.TB) (guest *Session, host net.Conn) {
	t.Helper()
	a, b := wires(t)
	guest = Guest(b, Config{MaxStreams: 2})
	t.Cleanup(func() { _ = guest.Close() })
	_, _ = a.Write(greeting{magic: hostMagic, version: version}.bytes())
	if err := guest.Handshake(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, greetingSize)); err != nil {
		t.Fatal(err)
	}
	return guest, a
}

// anybody may not send these, whichever side it is.
var anybody = map[string]string{
	"more than the window":   frame(16, kindData, strings.Repeat("x", 101)),
	"window spent twice":     frame(16, kindData, strings.Repeat("x", 60)) + frame(16, kindData, strings.Repeat("x", 41)),
	"data after the end":     frame(16, kindEnd, "") + frame(16, kindData, "x"),
	"two ends":               frame(16, kindEnd, "") + frame(16, kindEnd, ""),
	"data after the close":   frame(16, kindClose, "") + frame(16, kindData, "x"),
	"credit after the close": frame(16, kindClose, "") + frame(16, kindCredit, number(1)),
	"two closes":             frame(16, kindClose, "") + frame(16, kindClose, ""),
	"credit beyond window":   frame(16, kindCredit, number(1)),
	"credit of nothing":      frame(16, kindCredit, number(0)),
	"credit of 2^31":         frame(16, kindCredit, number(1<<31)),
	"credit of 2^32-1":       frame(16, kindCredit, number(1<<32-1)),
	"stream never opened":    frame(99, kindData, "x"),
	"end of no stream":       frame(99, kindEnd, ""),
	"close of no stream":     frame(99, kindClose, ""),
	"credit of no stream":    frame(99, kindCredit, number(1)),
	"empty data":             frame(16, kindData, ""),
	"long data":              frame(16, kindData, strings.Repeat("x", MaxPayload+1)),
	"longest data":           frame(16, kindData, strings.Repeat("x", 1<<16-1)),
	"type 0":                 frame(16, 0, ""),
	"type of no frame":       frame(16, kindBye+1, ""),
	"type 255":               frame(16, 255, ""),
	"flags":                  "\x00\x00\x00\x10\x03\x01\x00\x00",
	"data on stream 0":       frame(0, kindData, "x"),
	"end on stream 0":        frame(0, kindEnd, ""),
	"credit on stream 0":     frame(0, kindCredit, number(1)),
	"close on stream 0":      frame(0, kindClose, ""),
	"ping on a stream":       frame(16, kindPing, number(1)),
	"pong on a stream":       frame(16, kindPong, number(1)),
	"bye on a stream":        frame(16, kindBye, ""),
	"short number":           frame(16, kindCredit, "123"),
	"long number":            frame(16, kindCredit, "12345"),
	"end with payload":       frame(16, kindEnd, "x"),
	"close with payload":     frame(16, kindClose, "x"),
	"bye with payload":       frame(0, kindBye, "x"),
	"session in a session":   string(greeting{magic: hostMagic, version: version}.bytes()),
}

// A guest that breaks the protocol ends the session, with what it did; one that
// has gone is told apart.
func TestHostileGuest(t *testing.T) {
	only := map[string]string{
		"open":             frame(17, kindOpen, number(100)),
		"ping":             frame(0, kindPing, number(1)),
		"pong of no ping":  frame(0, kindPong, number(1)),
		"pong 0":           frame(0, kindPong, number(0)),
		"bye that is none": frame(0, kindBye, ""),
	}
	for _, table := range []map[string]string{anybody, only} {
		for name, sent := range table {
			t.Run(name, func(t *testing.T) {
				host, _, guest := hosted(t)
				_, _ = guest.Write([]byte(sent))
				breaks(t, host)
			})
		}
	}
	for name, sent := range map[string]string{"": "", "in a header": "\x00\x00", "in a payload": frame(16, kindData, "xyz")[:10]} {
		t.Run("hang-up "+name, func(t *testing.T) {
			host, _, guest := hosted(t)
			_, _ = guest.Write([]byte(sent))
			_, _ = guest.Read(make([]byte, 1)) // of an open, the rest of which it does not take
			_ = guest.Close()
			<-host.Done()
			if err := host.Err(); errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "hung up") {
				t.Errorf("it ended because of: %v", err)
			}
		})
	}
}

// A guest checks its host as well.
func TestHostileHost(t *testing.T) {
	opened := frame(16, kindOpen, number(100))
	only := map[string]string{
		"open twice":        frame(16, kindOpen, number(100)),
		"no window":         frame(17, kindOpen, number(0)),
		"huge window":       frame(17, kindOpen, number(MaxWindow+1)),
		"open on stream 0":  frame(0, kindOpen, number(100)),
		"too many streams":  frame(17, kindOpen, number(1)) + frame(18, kindOpen, number(1)),
		"pong":              frame(0, kindPong, number(1)),
		"ping 0":            frame(0, kindPing, number(0)),
		"ping twice":        frame(0, kindPing, number(7)) + frame(0, kindPing, number(7)),
		"data after bye":    frame(0, kindBye, "") + frame(16, kindData, "x"),
		"not accepted, yet": frame(16, kindClose, "") + frame(16, kindOpen, number(100)),
	}
	for _, table := range []map[string]string{anybody, only} {
		for name, sent := range table {
			t.Run(name, func(t *testing.T) {
				guest, host := guested(t)
				_, _ = host.Write([]byte(opened + sent))
				breaks(t, guest)
			})
		}
	}
}

func breaks(t *testing.T, s *Session) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second): // whatever was wrong with it, it was taken
		t.Fatal("the session goes on")
	}
	if err := s.Err(); !errors.Is(err, ErrProtocol) || strings.Contains(err.Error(), "%!") {
		t.Errorf("it ended because of: %v", err)
	}
}

// What a guest may do is not taken amiss: data and credit that cross a close,
// and pongs for several pings.
func TestCrossing(t *testing.T) {
	host, near, guest := hosted(t)
	if _, err := near.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	if _, err := io.ReadFull(guest, make([]byte, 12+108+8)); err != nil { // open, data, close
		t.Fatal(err)
	}
	_, _ = io.WriteString(guest, frame(16, kindCredit, number(100))+frame(16, kindData, strings.Repeat("x", 100))+
		frame(16, kindEnd, "")+frame(16, kindClose, ""))
	pinged := make(chan error)
	for range 3 {
		go func() { pinged <- host.Ping(context.Background()) }()
	}
	ping := make([]byte, 12)
	for last := uint32(0); last < 3; {
		if _, err := io.ReadFull(guest, ping); err != nil {
			t.Fatal(err)
		}
		last = binary.BigEndian.Uint32(ping[headerSize:])
	}
	_, _ = io.WriteString(guest, frame(0, kindPong, number(3)))
	for range 3 {
		if err := <-pinged; err != nil {
			t.Error(err)
		}
	}
	if len(host.streams) != 0 {
		t.Error("the stream is still there")
	}
}
