// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"encoding/binary"
	"io"
	"testing"
)

// A stream that nobody reads takes its window and no more, and holds up neither
// its neighbour, in either direction, nor a ping.
func TestUnreadStream(t *testing.T) {
	host, guest := connected(t)
	a, b := open(t, host, guest, 16, 1000)
	stopped := make(chan int)
	for _, s := range []*Stream{a, b} {
		go func() { n, _ := s.Write(make([]byte, 5000)); stopped <- n }()
	}
	near, far := open(t, host, guest, 17, 1000)
	const much = 3 << 20
	for _, d := range [][2]*Stream{{near, far}, {far, near}} {
		go func() { _, _ = d[0].Write(make([]byte, much)) }()
		if n, err := io.CopyN(io.Discard, d[1], much); err != nil {
			t.Fatalf("%d bytes of the other stream: %v", n, err)
		}
	}
	if err := host.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	for _, s := range []*Stream{a, b} {
		s.s.mu.Lock()
		if s.in.size != 1000 || s.allowed != 0 {
			t.Errorf("%d bytes wait, %d may come", s.in.size, s.allowed)
		}
		s.s.mu.Unlock()
	}
	_, _ = a.Close(), b.Close()
	for range 2 {
		if n := <-stopped; n != 1000 {
			t.Errorf("%d bytes were taken", n)
		}
	}
}

// Credit is given when half of the window was read, and not before; none is for
// data that has ended, or to a peer that closed.
func TestCredit(t *testing.T) {
	host, near, guest := hosted(t)
	if _, err := io.ReadFull(guest, make([]byte, headerSize+numberSize)); err != nil { // open
		t.Fatal(err)
	}
	say := func(s string) {
		t.Helper()
		if _, err := io.WriteString(guest, s); err != nil {
			t.Fatal(err)
		}
	}
	read := func(n int) {
		t.Helper()
		if _, err := io.ReadFull(near, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	// hears is the next frame, after which nothing else has been sent.
	hears := func() header {
		t.Helper()
		b := make([]byte, headerSize+numberSize)
		if _, err := io.ReadFull(guest, b); err != nil {
			t.Fatal(err)
		}
		h, err := parseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		h.length = int(binary.BigEndian.Uint32(b[headerSize:]))
		return h
	}
	pings := uint32(0)
	quiet := func() {
		t.Helper()
		for range 2 { // the first may overtake what is there already
			pinged := make(chan error)
			go func() { pinged <- host.Ping(t.Context()) }()
			if h := hears(); h.kind != kindPing {
				t.Fatalf("%v of %d was sent", h.kind, h.length)
			}
			pings++
			say(frame(0, kindPong, number(pings)))
			if err := <-pinged; err != nil {
				t.Fatal(err)
			}
		}
	}
	say(frame(16, kindData, string(make([]byte, 100))))
	read(49)
	quiet()
	read(1)
	if h := hears(); h.kind != kindCredit || h.length != 50 {
		t.Errorf("%v of %d bytes for 50", h.kind, h.length)
	}
	say(frame(16, kindData, string(make([]byte, 50))) + frame(16, kindEnd, ""))
	quiet()
	read(100)
	quiet()
}
