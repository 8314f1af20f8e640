// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// wires are the two ends of a stream of bytes.
func wires(t testing.TB) (host, guest net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "wire")
		end, err := net.FileConn(f) // has a descriptor of its own
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = end.Close() })
		ends[i] = end
	}
	return ends[0], ends[1]
}

// begun makes two sessions know each other.
func begun(t testing.TB, host, guest *Session) {
	t.Helper()
	answered := make(chan error, 1)
	go func() { answered <- guest.Handshake(context.Background()) }()
	if err := errors.Join(host.Handshake(context.Background()), <-answered); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = host.Close(), guest.Close() })
}

// connected are two ends of a session.
func connected(t testing.TB) (host, guest *Session) {
	t.Helper()
	a, b := wires(t)
	host, guest = Host(a, Config{}), Guest(b, Config{})
	begun(t, host, guest)
	return host, guest
}

// open opens a stream and accepts it.
func open(t testing.TB, host, guest *Session, id uint32, window int) (near, far *Stream) {
	t.Helper()
	near, err := host.Open(context.Background(), id, window)
	if err != nil {
		t.Fatal(err)
	}
	far, err = guest.Accept(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if far.ID() != id {
		t.Fatalf("stream %d was opened and %d accepted", id, far.ID())
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// gone waits until neither end counts a stream any more.
func gone(t testing.TB, host, guest *Session) {
	t.Helper()
	for range 2 { // what the first ping passes may have an answer
		if err := host.Ping(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*Session{host, guest} {
		s.mu.Lock()
		if n := len(s.streams); n != 0 {
			t.Errorf("%d streams are left (guest: %v)", n, s.guest)
		}
		s.mu.Unlock()
	}
}
