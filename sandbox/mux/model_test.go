// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// tape is how a world goes on, a byte for each choice; after it, the same each
// time.
type tape []byte

func (t *tape) next(n int) int {
	if len(*t) == 0 {
		return 0
	}
	c := int((*t)[0])
	*t = (*t)[1:]
	return c % n
}

// world is two sessions without goroutines, and all that was written to their
// transports and has not been read. Each step is one choice, so that any
// interleaving is possible and the same one comes twice.
type world struct {
	t        *testing.T
	sessions [2]*Session // host, guest
	wires    [2][]byte   // what is on the way from each
	streams  [][2]*side  // of each stream: near, far (nil until accepted)
	nextID   uint32
}

// side is what the model knows of one end of a stream.
type side struct {
	*Stream
	window int
	wrote  int  // bytes that Write took or holds; each is a function of its place
	ended  bool // CloseWrite, with everything written
	closed bool
	read   int
	sawEnd bool
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, nextID: 1}
	for i, begin := range []func(io.ReadWriteCloser, Config) *Session{Host, Guest} {
		s := begin(nil, Config{MaxStreams: 4})
		s.phase = running
		w.sessions[i] = s
	}
	return w
}

// place is the byte at a place of what one side of a stream writes.
func place(id uint32, side, at int) byte { return byte(at*7 + at>>8 + int(id)*31 + side*101) }

func (w *world) open(window int) {
	st, err := w.sessions[0].Open(w.t.Context(), w.nextID, window)
	if err != nil {
		if len(w.sessions[0].streams) < 4 {
			w.t.Fatalf("open: %v", err)
		}
		return
	}
	w.streams = append(w.streams, [2]*side{{Stream: st, window: window}, nil})
	w.nextID++
	if w.nextID == 20 { // numbers are used again when they are free
		w.nextID = 10
	}
	for w.sessions[0].streams[w.nextID] != nil {
		w.nextID++
	}
}

func (w *world) accept() {
	select {
	case st := <-w.sessions[1].accepted:
		st.accept()
		for i, pair := range w.streams {
			if pair[1] == nil {
				if pair[0].id != st.id || pair[0].window != st.window {
					w.t.Fatalf("stream %d with %d was opened, %d with %d accepted", pair[0].id, pair[0].window, st.id, st.window)
				}
				w.streams[i][1] = &side{Stream: st, window: st.window}
				return
			}
		}
		w.t.Fatalf("stream %d was accepted and not opened", st.id)
	default:
	}
}

// send has one session's writer put what it has on the wire.
func (w *world) send(from int, room int) {
	s := w.sessions[from]
	buf := make([]byte, max(room, 100))
	s.mu.Lock()
	defer s.mu.Unlock()
	w.wires[from] = append(w.wires[from], buf[:s.fillLocked(buf)]...)
}

// receive has one session's reader take the next frame.
func (w *world) receive(to int) bool {
	wire := w.wires[1-to]
	if len(wire) == 0 {
		return false
	}
	h, err := parseHeader(wire)
	if err == nil {
		err = w.sessions[to].take(h, wire[headerSize:headerSize+h.length])
	}
	if err != nil {
		w.t.Fatalf("session %d: %v", to, err)
	}
	w.wires[1-to] = wire[headerSize+h.length:]
	return true
}

// write begins a Write, if none is under way: what it would do before it waits.
func (w *world) write(n, i int, size int) {
	x := w.streams[n][i]
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if x.writing || x.refusesLocked(true) != nil {
		return
	}
	size = min(size, 20*x.window)
	p := make([]byte, size)
	for at := range p {
		p[at] = place(x.id, i, x.wrote+at)
	}
	x.wrote += size
	x.writing, x.pending = true, p
	x.queueLocked()
}

// settle ends Writes that need not wait any more.
func (w *world) settle(n, i int) {
	x := w.streams[n][i]
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if x.writing && (len(x.pending) == 0 || x.refusesLocked(false) != nil) {
		x.wrote -= len(x.pending)
		x.writing, x.pending = false, nil
		if x.finished {
			x.queueLocked()
		}
	}
}

// read reads what there is, if Read would not wait.
func (w *world) read(n, i, size int) {
	x, peer := w.streams[n][i], w.streams[n][1-i]
	if x.closed || x.in.size == 0 && !x.inEnded && !x.inClosed {
		return
	}
	p := make([]byte, min(size, x.in.size+1))
	got, err := x.Read(p)
	for at, b := range p[:got] {
		if b != place(x.id, 1-i, x.read+at) {
			w.t.Fatalf("stream %d: byte %d is another", x.id, x.read+at)
		}
	}
	x.read += got
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		x.sawEnd = true
		if !peer.ended || x.read != peer.wrote {
			w.t.Fatalf("stream %d: an end after %d bytes of %d, ended: %v", x.id, x.read, peer.wrote, peer.ended)
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		if !peer.closed || peer.ended {
			w.t.Fatalf("stream %d: cut, and it was not: %v", x.id, err)
		}
	default:
		w.t.Fatalf("stream %d: %v", x.id, err)
	}
}

func (w *world) end(n, i int) {
	x := w.streams[n][i]
	if x.CloseWrite() == nil {
		x.ended = true
	}
}

func (w *world) close(n, i int) {
	x := w.streams[n][i]
	if !x.closed && len(x.pending) > 0 {
		x.ended = false
	}
	if err := x.Stream.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		w.t.Fatal(err)
	}
	x.closed = true
}

// check is what holds at any time.
func (w *world) check() {
	for i, s := range w.sessions {
		if len(s.streams) > s.most {
			w.t.Fatalf("session %d has %d streams", i, len(s.streams))
		}
	}
	for _, pair := range w.streams {
		for i, x := range pair {
			if x == nil {
				continue
			}
			chunks := 0
			for c := x.in.head; c != nil; c = c.next {
				chunks++
			}
			switch {
			case x.in.size+x.owed+x.allowed > x.window && !x.Stream.closed:
				w.t.Fatalf("stream %d of %d: %d+%d+%d", x.id, x.window, x.in.size, x.owed, x.allowed)
			case x.credit < 0 || x.credit > x.window || x.allowed < 0:
				w.t.Fatalf("stream %d of %d: credit %d, allowed %d", x.id, x.window, x.credit, x.allowed)
			case x.closed && chunks > 0:
				w.t.Fatalf("stream %d is closed and holds memory", x.id)
			case chunks > x.window/chunkSize+2 || x.in.size == 0 && chunks > 0:
				w.t.Fatalf("stream %d (side %d): %d chunks for %d bytes of %d", x.id, i, chunks, x.in.size, x.window)
			}
		}
	}
}

// step makes one choice.
func (w *world) step(c *tape) {
	op := c.next(16)
	switch op {
	case 0:
		w.open([]int{1, 2, 3, 10, 100, 1000, chunkSize, 3*chunkSize + 5, 200_000}[c.next(9)])
	case 1:
		w.accept()
	case 2, 3:
		w.send(op-2, c.next(3)*maxFrame/2)
	case 4, 5, 6, 7:
		w.receive(op % 2)
	default:
		if len(w.streams) == 0 {
			return
		}
		n := c.next(len(w.streams))
		i := c.next(2)
		if w.streams[n][i] == nil {
			return
		}
		w.settle(n, i)
		switch op {
		case 8, 9, 10:
			w.write(n, i, []int{1, 3, 99, 1000, MaxPayload, MaxPayload + 1, 50_000}[c.next(7)])
		case 11, 12, 13:
			if w.streams[n][1-i] != nil {
				w.read(n, i, []int{1, 50, 5000, 1 << 20}[c.next(4)])
			}
		case 14:
			w.end(n, i)
		case 15:
			if c.next(4) == 0 {
				w.close(n, i)
			}
		}
	}
	w.check()
}

// finish lets everything that was written arrive, and closes everything: then
// nothing is left, on either side.
func (w *world) finish() {
	for busy := true; busy; {
		busy = false
		w.accept()
		for i := range w.sessions {
			w.send(i, maxFrame)
			for w.receive(1 - i) {
				busy = true
			}
		}
		for n, pair := range w.streams {
			for i, x := range pair {
				if x == nil {
					busy = true
					continue
				}
				w.settle(n, i)
				if pair[1-i] == nil {
					continue
				}
				for before := -1; x.read != before; {
					before = x.read
					w.read(n, i, 1<<20)
					busy = busy || x.read != before
				}
			}
		}
		w.check()
	}
	for n, pair := range w.streams {
		for i, x := range pair {
			peer := pair[1-i]
			switch {
			case x.closed || peer.closed && !peer.ended:
			case x.read != peer.wrote:
				w.t.Fatalf("stream %d: %d bytes of %d have come", x.id, x.read, peer.wrote)
			case peer.ended && !x.sawEnd:
				w.t.Fatalf("stream %d: there was no end", x.id)
			}
			w.close(n, i)
			w.settle(n, i)
		}
	}
	for range 3 {
		for i := range w.sessions {
			w.send(i, maxFrame)
			for w.receive(1 - i) {
			}
		}
	}
	for i, s := range w.sessions {
		if len(s.streams) != 0 || s.turns.first() != nil || len(w.wires[i]) != 0 {
			w.t.Fatalf("session %d: %d streams are left, %d bytes on the wire", i, len(s.streams), len(w.wires[i]))
		}
	}
}

// FuzzModel compares two sessions, in any interleaving of anything that can
// be done with them, with what was asked of them.
func FuzzModel(f *testing.F) {
	for seed := range byte(32) {
		var choices []byte
		for i := range 600 {
			choices = append(choices, byte(bytes.Count(choices, []byte{seed})*3+i*int(seed)+i>>3))
		}
		f.Add(choices)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		w, c := newWorld(t), tape(choices[:min(len(choices), 2000)])
		for len(c) > 0 {
			w.step(&c)
		}
		w.finish()
	})
}
