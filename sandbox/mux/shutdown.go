// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
)

// Shutdown ends the session of a host that lets its guest go on: what can be
// sent is sent, both ends say bye, and the transport is left open, empty in both
// directions, to whoever had it before. If ctx ends first, it is closed.
func (s *Session) Shutdown(ctx context.Context) error {
	if s.guest {
		return fmt.Errorf("shut down: a guest ends no session: %w", errdefs.ErrFailedPrecondition)
	}
	if err := s.advance(running, leaving); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		s.end(fmt.Errorf("shut down: %w", context.Cause(ctx)))
	}
	s.work.Wait()
	if err := s.Err(); !errors.Is(err, ErrOver) {
		return err
	}
	return nil
}

// saidBye is after this side's last frame was handed to the transport.
func (s *Session) saidBye() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byeSaid = true
	return s.overLocked()
}

// heardBye is after the peer's last frame. The host has said it first.
func (s *Session) heardBye() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.in.Buffered() > 0:
		return violation("something follows its bye")
	case !s.guest && s.phase != left:
		return violation("a guest ended the session")
	}
	if s.guest {
		s.phase = leaving // the writer answers
		s.wake.Signal()
	}
	s.byeHeard = true
	return s.overLocked()
}

// overLocked ends the session once neither goroutine touches the transport
// any more.
func (s *Session) overLocked() error {
	if s.byeSaid && s.byeHeard {
		return ErrOver
	}
	return nil
}
