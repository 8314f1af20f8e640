// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/containerd/errdefs"

	"berth/sandbox/mux"
)

// arrivals are the streams that the host has opened and that no call has named
// yet: a stream may come before its call or after it. One whose call never comes
// is let go of when the host closes it; those that it has not closed are bounded
// by the session.
type arrivals struct {
	gone <-chan struct{} // closed when nobody calls any more

	mu      sync.Mutex
	streams map[uint32]arrival
	changed chan struct{}  // closed and replaced with every stream
	work    sync.WaitGroup // one for each stream that waits
}

type arrival struct {
	stream *mux.Stream
	taken  chan struct{} // closed when a call has named it
}

func newArrivals(gone <-chan struct{}) *arrivals {
	return &arrivals{gone: gone, streams: make(map[uint32]arrival), changed: make(chan struct{})}
}

func (a *arrivals) put(s *mux.Stream) {
	w := arrival{stream: s, taken: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams[s.ID()] = w
	close(a.changed)
	a.changed = make(chan struct{})
	a.work.Go(func() {
		select {
		case <-w.taken:
			return
		case <-s.HungUp():
		case <-a.gone:
		}
		a.drop(w)
	})
}

// drop lets go of a stream, and of what it holds, unless a call has it. By now
// its number may be another's.
func (a *arrivals) drop(w arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-w.taken:
		return
	default:
	}
	if id := w.stream.ID(); a.streams[id] == w {
		delete(a.streams, id)
	}
	_ = w.stream.Close()
}

// take waits for a stream and hands it over.
func (a *arrivals) take(ctx context.Context, id uint32) (*mux.Stream, error) {
	for {
		a.mu.Lock()
		w, ok := a.streams[id]
		if ok {
			delete(a.streams, id)
			close(w.taken)
		}
		changed := a.changed
		a.mu.Unlock()
		if ok {
			return w.stream, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for stream %d: %w: %w", id, ctx.Err(), errdefs.ErrInvalidArgument)
		}
	}
}

// close waits until all are let go of, which gone brings about.
func (a *arrivals) close() { a.work.Wait() }

// oneConn is a listener for a connection that there is already.
type oneConn struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newOneConn(c net.Conn) *oneConn {
	l := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
	l.conn <- c
	return l
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "session", Net: "unix"} }
