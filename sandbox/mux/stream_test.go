// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// What one end writes the other reads, with the end, in both directions.
func TestBothDirections(t *testing.T) {
	for _, window := range []int{1, 7, 1000, chunkSize, 256 << 10, MaxWindow} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			host, guest := connected(t)
			near, far := open(t, host, guest, 16, window)
			sent := []byte(strings.Repeat("0123456789", min(window*20, 100_000)))
			for i, d := range [][2]*Stream{{near, far}, {far, near}} {
				go func() {
					if n, err := d[0].Write(sent); n != len(sent) || err != nil {
						t.Errorf("direction %d: %d bytes were written: %v", i, n, err)
					}
					if err := d[0].CloseWrite(); err != nil {
						t.Errorf("direction %d: end: %v", i, err)
					}
				}()
				if got, err := io.ReadAll(d[1]); !bytes.Equal(got, sent) || err != nil {
					t.Errorf("direction %d: %d bytes of %d were read: %v", i, len(got), len(sent), err)
				}
			}
		})
	}
}

// A close is seen in both directions of the other end, after what was written
// and, if there was one, its end.
func TestClose(t *testing.T) {
	for name, c := range map[string]struct {
		end  bool
		want error
	}{
		"after the end":   {true, nil},
		"without the end": {false, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			host, guest := connected(t)
			near, far := open(t, host, guest, 16, 1000)
			if _, err := near.Write([]byte("last")); err != nil {
				t.Fatal(err)
			}
			if c.end {
				if err := near.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			if err := near.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(far)
			if string(got) != "last" || !errors.Is(err, c.want) {
				t.Errorf("%q was read: %v", got, err)
			}
			if err := host.Ping(t.Context()); err != nil { // the close is before it
				t.Fatal(err)
			}
			if _, err := far.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("write to what the other end has closed: %v", err)
			}
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read after close: %v", err)
			}
			if _, err := near.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("write after close: %v", err)
			}
			gone(t, host, guest)
		})
	}
}

// A Write that Close cuts short does not look complete at the far end, though
// CloseWrite was called.
func TestCutShort(t *testing.T) {
	host, guest := connected(t)
	near, far := open(t, host, guest, 16, 10)
	wrote := make(chan int)
	go func() { n, _ := near.Write(make([]byte, 100)); wrote <- n }()
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	n := <-wrote
	if got, err := io.ReadAll(far); len(got) != n-1 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes of %d were read: %v", len(got)+1, n, err)
	}
}

// What has come can be read after the session has ended, with its end.
func TestReadAfterSession(t *testing.T) {
	for name, end := range map[string]bool{"ended": true, "not ended": false} {
		t.Run(name, func(t *testing.T) {
			host, guest := connected(t)
			near, far := open(t, host, guest, 16, 100)
			_, _ = far.Write([]byte("last"))
			if end {
				_ = far.CloseWrite()
			}
			if err := host.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := host.Ping(t.Context()); err != nil { // what was queued before is here
				t.Fatal(err)
			}
			_ = guest.Close()
			<-host.Done()
			got, err := io.ReadAll(near)
			if string(got) != "last" || (err == nil) != end {
				t.Errorf("%q was read: %v", got, err)
			}
			if _, err := near.Write([]byte("x")); !errors.Is(err, host.Err()) {
				t.Errorf("write: %v", err)
			}
		})
	}
}

// What may not be opened.
func TestOpenRefused(t *testing.T) {
	host, guest := connected(t)
	open(t, host, guest, 16, 10)
	for name, c := range map[string]struct {
		s      *Session
		id     uint32
		window int
	}{
		"by a guest":    {guest, 17, 10},
		"stream 0":      {host, 0, 10},
		"no window":     {host, 17, 0},
		"a huge window": {host, 17, MaxWindow + 1},
		"twice":         {host, 16, 10},
	} {
		if _, err := c.s.Open(t.Context(), c.id, c.window); err == nil {
			t.Errorf("%s: it was opened", name)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := host.Open(ended, 17, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := guest.Ping(t.Context()); err == nil {
		t.Error("a guest pinged")
	}
}

// No more streams than that many at once; one that both ends have closed makes
// room, and frees its number.
func TestMaxStreams(t *testing.T) {
	a, b := wires(t)
	host, guest := Host(a, Config{MaxStreams: 3}), Guest(b, Config{MaxStreams: 3})
	begun(t, host, guest)
	for range 100 { // nobody accepts them in between
		for id := range uint32(3) {
			st, err := host.Open(t.Context(), 16+id, 10)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = st.Write([]byte{byte(id)})
			_, _ = st.CloseWrite(), st.Close()
		}
		if err := errors.Join(host.Ping(t.Context()), host.Ping(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, err := host.Open(t.Context(), 19, 10); err == nil {
			t.Fatal("a fourth stream was opened")
		}
		for id := range byte(3) {
			st, err := guest.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(st); string(got) != string([]byte{id}) || err != nil {
				t.Fatalf("stream %d: %q, %v", st.ID(), got, err)
			}
			_ = st.Close()
		}
		gone(t, host, guest)
	}
}

// A stream that the host has closed is over once it is accepted, also before
// it is closed there.
func TestOverOnceAccepted(t *testing.T) {
	host, guest := connected(t)
	near, err := host.Open(t.Context(), 16, 10)
	if err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	if err := errors.Join(host.Ping(t.Context()), host.Ping(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone(t, host, guest)
}

// Writes that are made at once come one after the other.
func TestWritesAtOnce(t *testing.T) {
	host, guest := connected(t)
	near, far := open(t, host, guest, 16, 50)
	const writers, lines = 4, 500
	var work sync.WaitGroup
	for i := range writers {
		line := []byte(strings.Repeat(string(rune('a'+i)), 99) + "\n")
		work.Go(func() {
			for range lines {
				if _, err := far.Write(line); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { work.Wait(); _ = far.CloseWrite() }()
	got, err := io.ReadAll(near)
	if len(got) != writers*lines*100 || err != nil {
		t.Fatalf("%d bytes: %v", len(got), err)
	}
	for line := range bytes.Lines(got) {
		if len(line) != 100 || bytes.Count(line, line[:1]) != 99 {
			t.Fatalf("a line is %q", line)
		}
	}
}
