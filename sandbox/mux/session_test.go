// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// The end of a session ends whatever waits in it, on both sides, and says why.
func TestSessionEnds(t *testing.T) {
	host, guest := connected(t)
	near, far := open(t, host, guest, 16, 10)
	errs := make(chan error)
	for _, s := range []*Stream{near, far} {
		go func() { _, err := s.Write(make([]byte, 11)); errs <- err }()
	}
	go func() { _, err := io.ReadAll(near); errs <- err }()
	go func() { _, err := guest.Accept(context.Background()); errs <- err }()
	if err := host.Err(); err != nil {
		t.Errorf("it has not ended: %v", err)
	}
	_ = guest.Close()
	for range 4 {
		if err := <-errs; err == nil {
			t.Error("no error")
		}
	}
	<-host.Done()
	why := host.Err()
	if errors.Is(why, ErrProtocol) || !strings.Contains(why.Error(), "hung up") {
		t.Errorf("the host's: %v", why)
	}
	if err := guest.Err(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the guest's: %v", err)
	}
	if err := host.Ping(t.Context()); !errors.Is(err, why) {
		t.Errorf("ping: %v", err)
	}
	if _, err := host.Open(t.Context(), 17, 10); !errors.Is(err, why) {
		t.Errorf("open: %v", err)
	}
}

// A ping is answered although a stream is not read, and not by a guest that is
// silent.
func TestPing(t *testing.T) {
	host, guest := connected(t)
	near, _ := open(t, host, guest, 16, 10)
	go func() { _, _ = near.Write(make([]byte, 11)) }()
	errs := make(chan error)
	for range 10 {
		go func() { errs <- host.Ping(context.Background()) }()
	}
	for range 10 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	silent, _, _ := hosted(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := silent.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := len(silent.pings.waiting); n != 0 {
		t.Errorf("%d wait for an answer", n)
	}
}

// After a shutdown the transport is open and empty, and another session begins
// over it; what was written before it has come.
func TestShutdown(t *testing.T) {
	a, b := wires(t)
	for range 20 {
		host, guest := Host(a, Config{}), Guest(b, Config{})
		begun(t, host, guest)
		near, far := open(t, host, guest, 16, 100)
		stuck := make(chan error)
		go func() { _, err := far.Write(make([]byte, 1000)); stuck <- err }()
		if _, err := near.Write([]byte("last")); err != nil {
			t.Fatal(err)
		}
		_ = near.CloseWrite()
		if err := host.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-guest.Done()
		if err := guest.Err(); !errors.Is(err, ErrOver) {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(far); string(got) != "last" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if err := <-stuck; !errors.Is(err, ErrOver) {
			t.Fatal(err)
		}
		if err := host.Shutdown(t.Context()); !errors.Is(err, ErrOver) {
			t.Fatalf("twice: %v", err)
		}
		_, _ = host.Close(), guest.Close()
	}
}

// A guest that does not say bye does not hold up a shutdown for ever.
func TestShutdownOfSilentGuest(t *testing.T) {
	host, near, guest := hosted(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // open, bye
		defer cancel()
		_, _ = io.ReadFull(guest, make([]byte, 2*headerSize+numberSize))
		if _, err := near.Write(make([]byte, 101)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	}()
	if err := host.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got, err := io.ReadAll(guest); len(got) != 0 || err != nil {
		t.Errorf("the transport is not closed: %q, %v", got, err)
	}
}

// A phase comes once.
func TestPhases(t *testing.T) {
	a, b := wires(t)
	host, guest := Host(a, Config{}), Guest(b, Config{})
	if err := host.Shutdown(t.Context()); err == nil {
		t.Error("it was shut down before it began")
	}
	if _, err := host.Open(t.Context(), 16, 10); err == nil {
		t.Error("a stream was opened before it began")
	}
	begun(t, host, guest)
	if err := host.Handshake(t.Context()); err == nil {
		t.Error("it began twice")
	}
	if err := guest.Shutdown(t.Context()); err == nil {
		t.Error("a guest shut it down")
	}
	_ = host.Close()
	if err := host.Handshake(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if text := host.Err().Error(); strings.Contains(text, "%!") {
		t.Error(text)
	}
}

// A guest that dies while it is written to has still said what it said.
func TestLastWords(t *testing.T) {
	for range 50 {
		host, near, guest := hosted(t)
		if _, err := io.WriteString(guest, frame(16, kindData, "last words")+frame(16, kindEnd, "")); err != nil {
			t.Fatal(err)
		}
		_ = guest.Close()
		for { // until the writer knows
			if _, err := near.Write(make([]byte, 1)); err != nil {
				break
			}
		}
		if got, err := io.ReadAll(near); string(got) != "last words" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		<-host.Done()
	}
}
