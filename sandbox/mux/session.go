// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/containerd/errdefs"
)

// Config is for what a session may do otherwise than by default.
type Config struct {
	// MaxStreams bounds the streams that are open at once; 0 is 4096.
	MaxStreams int
}

// Session is one end of a connection. Its methods may be called at once.
type Session struct {
	t     io.ReadWriteCloser
	in    *bufio.Reader
	guest bool
	most  int

	done chan struct{} // closed once err is final
	err  error
	once sync.Once
	work sync.WaitGroup // reader and writer, once the handshake was made

	accepted chan *Stream // of a guest; capacity most

	mu      sync.Mutex
	wake    *sync.Cond // of the writer, with mu
	streams map[uint32]*Stream
	ready   []*Stream // with something to send, in turn
	urgent  []frame   // sent before any data
	pings   map[uint64]chan struct{}
	pinged  uint64 // the last ping's number
	highest uint32 // of the streams that the host has opened
	greeted bool
	ended   bool
}

// frame is one without data of a stream's.
type frame struct {
	header
	payload [8]byte
}

// Host is the end that opens streams. The session owns t.
func Host(t io.ReadWriteCloser, cfg Config) *Session { return newSession(t, cfg, false) }

// Guest is the end that accepts them.
func Guest(t io.ReadWriteCloser, cfg Config) *Session { return newSession(t, cfg, true) }

func newSession(t io.ReadWriteCloser, cfg Config, guest bool) *Session {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 4096
	}
	s := &Session{
		t: t, in: bufio.NewReaderSize(t, 2*maxPayload), guest: guest, most: cfg.MaxStreams,
		done: make(chan struct{}), accepted: make(chan *Stream, cfg.MaxStreams),
		streams: make(map[uint32]*Stream), pings: make(map[uint64]chan struct{}),
	}
	s.wake = sync.NewCond(&s.mu)
	return s
}

// begin starts reading and writing, once the two ends know each other.
func (s *Session) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.greeted || s.ended {
		return fmt.Errorf("the session has begun or ended already: %w", errdefs.ErrFailedPrecondition)
	}
	s.greeted = true
	s.work.Go(func() { s.end(s.read()) })
	s.work.Go(func() { s.end(s.write()) })
	return nil
}

// Done is closed once the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session has ended, nil as long as it has not.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Close ends the session and waits for its goroutines.
func (s *Session) Close() error {
	s.end(net.ErrClosed)
	s.work.Wait()
	return nil
}

// end is the one way in which a session ends.
func (s *Session) end(err error) {
	s.once.Do(func() {
		s.err = err
		_ = s.t.Close()
		s.mu.Lock()
		s.ended = true
		for _, st := range s.streams {
			st.changed()
		}
		s.wake.Broadcast()
		s.mu.Unlock()
		close(s.done)
	})
}

// Open opens a stream. The host alone may, and never twice with one number.
func (s *Session) Open(_ context.Context, id uint32, window int) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.guest:
		return nil, fmt.Errorf("open stream %d: a guest opens none: %w", id, errdefs.ErrFailedPrecondition)
	case s.ended:
		return nil, fmt.Errorf("open stream %d: %w", id, s.err)
	case id == 0 || window <= 0 || window > maxWindow:
		return nil, fmt.Errorf("open stream %d with a window of %d: %w", id, window, errdefs.ErrInvalidArgument)
	case s.streams[id] != nil:
		return nil, fmt.Errorf("stream %d is open: %w", id, errdefs.ErrAlreadyExists)
	case len(s.streams) >= s.most:
		return nil, fmt.Errorf("open stream %d: %d are open: %w", id, s.most, errdefs.ErrResourceExhausted)
	}
	st := newStream(s, id, window)
	s.streams[id] = st
	f := frame{header: header{id, kindOpen, 4}}
	binary.BigEndian.PutUint32(f.payload[:], uint32(window))
	s.sendLocked(f)
	return st, nil
}

// Accept returns the next stream that the host opened.
func (s *Session) Accept(ctx context.Context) (*Stream, error) {
	select {
	case st := <-s.accepted:
		return st, nil
	default:
	}
	select {
	case st := <-s.accepted:
		return st, nil
	case <-s.done:
		return nil, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Ping returns when the other end has answered.
func (s *Session) Ping(ctx context.Context) error {
	answered := make(chan struct{})
	s.mu.Lock()
	s.pinged++
	n := s.pinged
	s.pings[n] = answered
	f := frame{header: header{0, kindPing, 8}}
	binary.BigEndian.PutUint64(f.payload[:], n)
	s.sendLocked(f)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.pings, n)
		s.mu.Unlock()
	}()
	select {
	case <-answered:
		return nil
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("ping: %w", ctx.Err())
	}
}

// sendLocked puts a frame before all data. s.mu is held.
func (s *Session) sendLocked(f frame) {
	s.urgent = append(s.urgent, f)
	s.wake.Signal()
}

var errPeer = errors.New("the other end broke the protocol")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errPeer, fmt.Errorf(format, args...))
}
