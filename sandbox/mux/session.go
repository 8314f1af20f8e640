// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/containerd/errdefs"
)

// Config is for what a session may do otherwise than by default.
type Config struct {
	// MaxStreams bounds the streams that a session has at once; 0 is the
	// constant of that name, which is also the most. A guest's may not be less
	// than its host's.
	MaxStreams int
}

// phase is how far a session has come. It only rises.
type phase int

const (
	fresh   phase = iota
	greeted       // Handshake was called
	running       // frames come and go
	leaving       // bye is to be sent: nothing new begins
	left          // bye is the last frame that was, or is being, sent
)

// Session is one end of a connection. Its methods may be called at once.
type Session struct {
	t      io.ReadWriteCloser
	in     *bufio.Reader // of Handshake, then of the reader
	guest  bool
	most   int
	chunks sync.Pool // of *chunk

	done     chan struct{}  // closed after err is set
	work     sync.WaitGroup // reader and writer
	accepted chan *Stream   // of a guest; capacity most

	mu      sync.Mutex
	wake    sync.Cond // of the writer: there is something to send
	phase   phase
	err     error              // why it has ended, nil before
	muted   error              // why nothing can be sent any more
	streams map[uint32]*Stream // those that not both ends have closed
	turns   turns              // streams with something to send
	pings   pings

	byeSaid, byeHeard bool
}

// Host is the end that opens streams. The session owns t, whose Close has to
// end a Read and a Write that are under way. A t that cannot be written to any
// more has to end, for Read, after what has come.
func Host(t io.ReadWriteCloser, cfg Config) *Session { return newSession(t, cfg, false) }

// Guest is the end that accepts them.
func Guest(t io.ReadWriteCloser, cfg Config) *Session { return newSession(t, cfg, true) }

func newSession(t io.ReadWriteCloser, cfg Config, guest bool) *Session {
	if cfg.MaxStreams <= 0 || cfg.MaxStreams > MaxStreams {
		cfg.MaxStreams = MaxStreams
	}
	s := &Session{
		t: t, in: bufio.NewReaderSize(t, 2*maxFrame), guest: guest, most: cfg.MaxStreams,
		chunks: sync.Pool{New: func() any { return new(chunk) }},
		done:   make(chan struct{}), streams: make(map[uint32]*Stream),
	}
	if guest {
		s.accepted = make(chan *Stream, s.most)
	}
	s.wake.L = &s.mu
	return s
}

// advance goes from one phase to another, if the session is in it.
func (s *Session) advance(from, to phase) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.phase != from:
		return fmt.Errorf("a session is begun once, ended once, and used in between: %w", errdefs.ErrFailedPrecondition)
	}
	s.phase = to
	s.wake.Signal()
	return nil
}

// run starts the two goroutines of the session. Each ends with it.
func (s *Session) run() error {
	if err := s.advance(greeted, running); err != nil {
		return err
	}
	s.work.Go(func() {
		if err := s.read(); err != nil {
			s.end(err)
		}
	})
	s.work.Go(func() {
		if err := s.write(); err != nil {
			s.end(err)
		}
	})
	return nil
}

// Done is closed once the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session has ended, nil as long as it has not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session at once, and waits for its goroutines. What was not
// handed to the transport is lost. After a Shutdown it does nothing.
func (s *Session) Close() error {
	s.end(net.ErrClosed)
	s.work.Wait()
	return nil
}

// end is the only way in which a session ends.
func (s *Session) end(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	for _, t := range s.streams {
		t.hangUpLocked()
		t.readable.Broadcast()
		t.writable.Broadcast()
	}
	s.err = err
	s.wake.Signal()
	s.mu.Unlock()
	if !errors.Is(err, ErrOver) {
		_ = s.t.Close()
	}
	close(s.done)
}
