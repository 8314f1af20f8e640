// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// connected are the two ends of a session over a pipe that holds nothing.
func connected(t *testing.T) (host, guest *Session) {
	t.Helper()
	a, b := net.Pipe()
	host, guest = Host(a, Config{}), Guest(b, Config{})
	t.Cleanup(func() {
		_ = host.Close()
		_ = guest.Close()
	})
	greeted := make(chan error)
	go func() { greeted <- guest.Handshake(t.Context()) }()
	if err := errors.Join(host.Handshake(t.Context()), <-greeted); err != nil {
		t.Fatal(err)
	}
	return host, guest
}

func open(t *testing.T, host, guest *Session, id uint32, window int) (near, far *Stream) {
	t.Helper()
	near, err := host.Open(t.Context(), id, window)
	if err != nil {
		t.Fatal(err)
	}
	if far, err = guest.Accept(t.Context()); err != nil || far.ID() != id {
		t.Fatal(far, err)
	}
	return near, far
}

// Whatever is written comes, whole and in order, on each of many streams in
// both directions at once, and then its end.
func TestEverythingComes(t *testing.T) {
	host, guest := connected(t)
	var all sync.WaitGroup
	defer all.Wait()
	for i := range uint32(8) {
		near, far := open(t, host, guest, i+1, 1000+int(i)*7000)
		for n, ends := range [][2]*Stream{{near, far}, {far, near}} {
			r := rand.New(rand.NewPCG(uint64(i), uint64(n)))
			sent := make([]byte, r.IntN(1<<20))
			for j := range sent {
				sent[j] = byte(r.Uint32())
			}
			all.Go(func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+r.IntN(100000))
					if _, err := ends[0].Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
				if err := ends[0].CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				got, err := io.ReadAll(ends[1])
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("stream %d: %d bytes of %d came, %v", i+1, len(got), len(sent), err)
				}
			})
		}
	}
}

// A stream that nobody reads takes its window and no more, and holds up no other.
func TestUnreadStream(t *testing.T) {
	host, guest := connected(t)
	deaf, unread := open(t, host, guest, 1, 1000)
	near, far := open(t, host, guest, 2, 1000)
	if err := deaf.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := deaf.Write(make([]byte, 5000)); n != 1000 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were taken, %v", n, err)
	}
	go func() { _, _ = near.Write(make([]byte, 100000)) }()
	if n, err := io.CopyN(io.Discard, far, 100000); err != nil {
		t.Errorf("%d bytes of the other stream, %v", n, err)
	}
	if err := host.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if n, err := io.CopyN(io.Discard, unread, 1000); err != nil {
		t.Errorf("%d bytes once it was read, %v", n, err)
	}
}

// A close is seen by both directions of the other end, once it has read what
// was written.
func TestClose(t *testing.T) {
	host, guest := connected(t)
	near, far := open(t, host, guest, 1, 1000)
	if _, err := near.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(far)
	if string(got) != "last" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := far.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write: %v", err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

// The end of a session ends what waits in it.
func TestSessionEnds(t *testing.T) {
	host, guest := connected(t)
	near, _ := open(t, host, guest, 1, 10)
	errs := make(chan error, 3)
	go func() { _, err := near.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := near.Write(make([]byte, 100)); errs <- err }()
	go func() { _, err := host.Accept(context.Background()); errs <- err }()
	_ = guest.Close()
	for range 3 {
		if err := <-errs; err == nil {
			t.Error("no error")
		}
	}
	<-host.Done()
	if host.Err() == nil {
		t.Error("it ended for no reason")
	}
	if _, err := host.Open(t.Context(), 2, 10); err == nil {
		t.Error("a stream was opened")
	}
}

// What is left from an earlier session is passed over, also where it looks
// like a greeting; another version is not.
func TestHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		stale string
		err   string
	}{
		"nothing":            {"", ""},
		"stale bytes":        {"stale" + magic[:5] + magic[:7], ""},
		"greeting of others": {magic + "\x01" + strings.Repeat("e", epochSize), ""},
		"other version":      {magic + "\x02" + strings.Repeat("e", epochSize), ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			host := Host(a, Config{})
			defer host.Close()
			got := make(chan error)
			go func() { got <- host.Handshake(t.Context()) }()
			greeting := make([]byte, greetingSize)
			if _, err := io.ReadFull(b, greeting); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Write(append([]byte(c.stale), greeting...)); err != nil {
				t.Fatal(err)
			}
			if err := <-got; err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("guest of another version", func(t *testing.T) {
		a, b := net.Pipe()
		guest := Guest(a, Config{})
		defer guest.Close()
		go func() { _, _ = b.Write([]byte(magic + "\x02" + strings.Repeat("e", epochSize))) }()
		if err := guest.Handshake(t.Context()); err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("%v", err)
		}
	})
	t.Run("silence", func(t *testing.T) {
		a, _ := net.Pipe()
		host := Host(a, Config{})
		defer host.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := host.Handshake(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
