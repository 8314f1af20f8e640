// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// alone is a stream with a window of ten bytes whose peer never says anything;
// it runs in a bubble.
func alone(t *testing.T) *Stream {
	t.Helper()
	a, b := net.Pipe()
	host := Host(a, Config{})
	host.phase = greeted
	if err := host.run(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, b) }()
	t.Cleanup(func() { _ = host.Close() })
	st, err := host.Open(t.Context(), 16, 10)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// waiting has two writes and a read of a stream wait; ends waits until all
// have returned, which they must with this error.
func waiting(t *testing.T, st *Stream) (ends func(error)) {
	t.Helper()
	errs := make(chan error, 3)
	go func() { _, err := st.Write(make([]byte, 11)); errs <- err }()
	go func() { _, err := st.Write(make([]byte, 11)); errs <- err }()
	go func() { _, err := st.Read(make([]byte, 1)); errs <- err }()
	synctest.Wait()
	return func(want error) {
		t.Helper()
		for range 3 {
			if err := <-errs; !errors.Is(err, want) {
				t.Errorf("%v, not %v", err, want)
			}
		}
	}
}

// Whoever waits for a stream is woken by each thing that ends the wait.
func TestWaitEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*Stream)
		want error
	}{
		"close":                  {func(st *Stream) { _ = st.Close() }, net.ErrClosed},
		"session":                {func(st *Stream) { _ = st.s.Close() }, net.ErrClosed},
		"deadline in the past":   {func(st *Stream) { _ = st.SetDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"deadline in the future": {func(st *Stream) { _ = st.SetDeadline(time.Now().Add(time.Hour)) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := alone(t)
				ends := waiting(t, st)
				c.end(st)
				ends(c.want)
			})
		})
	}
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := alone(t)
		began := time.Now()
		_ = st.SetDeadline(began.Add(time.Second)) // replaced
		_ = st.SetDeadline(began.Add(time.Minute))
		if n, err := st.Write(make([]byte, 11)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes were written: %v", n, err)
		}
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it took %v", took)
		}
		_ = st.SetDeadline(time.Time{})
		st.s.mu.Lock()
		_ = st.takeDataLocked([]byte("x"))
		_ = st.takeCreditLocked(1)
		st.s.mu.Unlock()
		if n, err := st.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("%d bytes were read: %v", n, err)
		}
		if n, err := st.Write(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("%d bytes were written: %v", n, err)
		}
		_ = st.SetDeadline(time.Now().Add(time.Minute))
		_ = st.Close()
		_ = st.SetDeadline(time.Now().Add(time.Minute))
		if st.readBy.timer != nil || st.writeBy.timer != nil {
			t.Error("a closed stream has a timer")
		}
	})
}

// The end that CloseWrite promised comes although the Write before it ran out
// of time; what that wrote, it has said.
func TestEndAfterDeadline(t *testing.T) {
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
	if err := host.Ping(t.Context()); err != nil { // the writer has looked for an end
		t.Fatal(err)
	}
	_ = near.SetWriteDeadline(time.Unix(1, 0))
	n := <-wrote
	if got, err := io.ReadAll(far); len(got) != n-1 || err != nil {
		t.Errorf("%d bytes of %d were read: %v", len(got)+1, n, err)
	}
}

// half is a transport that can be read, where nothing comes, and not be written.
type half struct{ net.Conn }

var errHalf = errors.New("nothing more is taken")

func (half) Write([]byte) (int, error) { return 0, errHalf }

// A transport that takes nothing more ends the writes, not the session.
func TestMuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		host := Host(half{a}, Config{})
		host.phase = running
		st, err := host.Open(t.Context(), 16, 10)
		if err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error)
		go func() { _, err := st.Write(make([]byte, 11)); wrote <- err }()
		synctest.Wait()
		host.phase = greeted
		if err := host.run(); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; !errors.Is(err, errHalf) {
			t.Error(err)
		}
		if _, err := st.Write([]byte("x")); !errors.Is(err, errHalf) {
			t.Error(err)
		}
		if err := host.Err(); err != nil {
			t.Errorf("it has ended: %v", err)
		}
		_ = host.Close()
	})
}

// cancels ends a context while it is written to.
type cancels struct {
	net.Conn
	cancel context.CancelFunc
}

func (c cancels) Write(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}

// A handshake whose context ends in its last moment fails.
func TestHandshakeCancelledLate(t *testing.T) {
	for range 20 {
		a, b := wires(t)
		ctx, cancel := context.WithCancel(t.Context())
		guest := Guest(cancels{b, cancel}, Config{})
		_, _ = a.Write(greeting{magic: hostMagic, version: version}.bytes())
		if err := guest.Handshake(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
