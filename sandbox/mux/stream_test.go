// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
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

// Close wakes who reads and writes here, and who does there.
func TestCloseWakes(t *testing.T) {
	host, guest := connected(t)
	near, far := open(t, host, guest, 16, 10)
	errs := make(chan error)
	for _, s := range []*Stream{near, far} {
		go func() { _, err := s.Write(make([]byte, 11)); errs <- err }()
		go func() { _, err := s.Write(make([]byte, 11)); errs <- err }() // waits for its turn
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := <-errs; err == nil {
			t.Error("eleven bytes were written to a window of ten")
		}
	}
	near, far = open(t, host, guest, 17, 10)
	for _, s := range []*Stream{near, far} {
		go func() { _, err := io.ReadAll(s); errs <- err }()
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-errs; err == nil {
			t.Error("a read ended well")
		}
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

func TestDeadlines(t *testing.T) {
	host, guest := connected(t)
	near, far := open(t, host, guest, 16, 10)
	_ = near.SetDeadline(time.Now().Add(time.Millisecond))
	if n, err := near.Write(make([]byte, 11)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were written: %v", n, err)
	}
	if n, err := near.Read(make([]byte, 11)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were read: %v", n, err)
	}
	_ = near.SetDeadline(time.Time{})
	if _, err := io.ReadFull(far, make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if n, err := near.Write(make([]byte, 10)); n != 10 || err != nil {
		t.Errorf("%d bytes were written: %v", n, err)
	}
	read := make(chan error)
	go func() { _, err := near.Read(make([]byte, 1)); read <- err }()
	_ = near.SetReadDeadline(time.Unix(1, 0)) // in the past, and under way
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
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
