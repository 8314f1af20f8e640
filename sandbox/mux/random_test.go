// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Streams of all sizes at once, written and read in both directions, half of
// them closed in the middle: what comes is what was sent, it ends where that
// ends, and nothing is left. FuzzModel has the interleavings; this has the
// goroutines.
func TestRandom(t *testing.T) {
	host, guest := connected(t)
	const lanes, rounds = 8, 8
	var arrived [lanes]chan *Stream
	for i := range arrived {
		arrived[i] = make(chan *Stream, 1)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for range lanes * rounds {
			far, err := guest.Accept(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			arrived[far.ID()%lanes] <- far
		}
	})
	for lane := range uint32(lanes) {
		work.Go(func() {
			random := rand.New(rand.NewPCG(uint64(lane), 5))
			for round := range uint32(rounds) {
				p := pair{window: 1 + random.IntN(1<<(1+random.IntN(18))), chunk: 1 + random.IntN(100_000)}
				p.size = random.IntN(30*min(p.window, 20_000) + 1)
				if p.cut = p.size; round%2 == 1 {
					p.cut = random.IntN(p.size + 1)
				}
				var err error
				if p.near, err = host.Open(t.Context(), lanes*(1+round)+lane, p.window); err != nil {
					t.Error(err)
					return
				}
				p.far = <-arrived[lane]
				p.run(t)
			}
		})
	}
	work.Wait()
	gone(t, host, guest)
	if err := host.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// pair is a stream through which size bytes go in each direction, unless near is
// closed after it wrote cut of them.
type pair struct {
	near, far                *Stream
	window, chunk, size, cut int
}

func (p pair) run(t *testing.T) {
	var work sync.WaitGroup
	work.Go(func() {
		p.write(p.near, 0, p.cut)
		if p.cut < p.size {
			_ = p.near.Close()
		}
		_ = p.near.CloseWrite()
	})
	work.Go(func() {
		p.write(p.far, 1, p.size)
		_ = p.far.CloseWrite()
	})
	work.Go(func() {
		want := error(nil)
		if p.cut < p.size {
			want = io.ErrUnexpectedEOF
		}
		if n, err := p.read(t, p.far, 0); n != p.cut || !errors.Is(err, want) {
			t.Errorf("stream %d: %d bytes of %d: %v", p.near.ID(), n, p.cut, err)
		}
	})
	work.Go(func() {
		n, err := p.read(t, p.near, 1)
		if (n != p.size || err != nil) && (p.cut == p.size || !errors.Is(err, net.ErrClosed)) {
			t.Errorf("stream %d: %d bytes of %d came back: %v", p.near.ID(), n, p.size, err)
		}
	})
	work.Wait()
	_, _ = p.near.Close(), p.far.Close()
}

func (p pair) write(to *Stream, side, size int) {
	buf := make([]byte, p.chunk)
	for at := 0; at < size; {
		part := buf[:min(len(buf), size-at)]
		for i := range part {
			part[i] = place(to.ID(), side, at+i)
		}
		n, err := to.Write(part)
		if err != nil {
			return
		}
		at += n
	}
}

func (p pair) read(t *testing.T, from *Stream, side int) (int, error) {
	got, err := io.ReadAll(from)
	for at, b := range got {
		if b != place(from.ID(), side, at) {
			t.Errorf("stream %d: byte %d is another", from.ID(), at)
			break
		}
	}
	return len(got), err
}
