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
// yet: a stream may come before its call or after it.
type arrivals struct {
	mu      sync.Mutex
	streams map[uint32]*mux.Stream
	changed chan struct{} // closed and replaced with every stream
}

func newArrivals() *arrivals {
	return &arrivals{streams: make(map[uint32]*mux.Stream), changed: make(chan struct{})}
}

func (a *arrivals) put(s *mux.Stream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams[s.ID()] = s
	close(a.changed)
	a.changed = make(chan struct{})
}

// take waits for a stream and hands it over.
func (a *arrivals) take(ctx context.Context, id uint32) (*mux.Stream, error) {
	for {
		a.mu.Lock()
		s, ok := a.streams[id]
		delete(a.streams, id)
		changed := a.changed
		a.mu.Unlock()
		if ok {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for stream %d: %w: %w", id, ctx.Err(), errdefs.ErrInvalidArgument)
		}
	}
}

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
