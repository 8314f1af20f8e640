// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"berth/sandbox/mux"
)

// arrived is a stream of a session on which something has come.
func arrived(t *testing.T) (near, far *mux.Stream) {
	t.Helper()
	a, b := net.Pipe()
	host, guest := mux.Host(a, mux.Config{}), mux.Guest(b, mux.Config{})
	t.Cleanup(func() { _, _ = host.Close(), guest.Close() })
	answered := make(chan error, 1)
	go func() { answered <- guest.Handshake(context.Background()) }()
	if err := errors.Join(host.Handshake(t.Context()), <-answered); err != nil {
		t.Fatal(err)
	}
	near, err := host.Open(t.Context(), 16, 100)
	if err == nil {
		_, err = near.Write([]byte("text"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if far, err = guest.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// A stream that no call has named goes when the host closes it, and when nobody
// calls any more.
func TestStreamOfNoCall(t *testing.T) {
	for name, end := range map[string]func(near *mux.Stream, gone chan struct{}){
		"closed":   func(near *mux.Stream, _ chan struct{}) { _ = near.Close() },
		"no calls": func(_ *mux.Stream, gone chan struct{}) { close(gone) },
	} {
		t.Run(name, func(t *testing.T) {
			near, far := arrived(t)
			gone := make(chan struct{})
			a := newArrivals(gone)
			a.put(far)
			end(near, gone)
			a.close()
			if len(a.streams) != 0 {
				t.Errorf("%d streams wait for a call", len(a.streams))
			}
			if n, err := far.Read(make([]byte, 4)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("it holds %d bytes (%v)", n, err)
			}
		})
	}
}

// One that was named is the call's, whatever the host does then.
func TestStreamOfCall(t *testing.T) {
	near, far := arrived(t)
	a := newArrivals(nil)
	a.put(far)
	s, err := a.take(t.Context(), far.ID())
	if err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	<-s.HungUp()
	a.close()
	if got, err := io.ReadAll(s); string(got) != "text" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q was read (%v)", got, err)
	}
}
