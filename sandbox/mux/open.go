// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// Open opens a stream on which either side may have window bytes on the way.
// Only the host opens streams, and it gives them their numbers; a number is
// free again when both ends have closed the stream that had it. Open does not
// wait for the guest; a ctx that has ended opens nothing.
func (s *Session) Open(ctx context.Context, id uint32, window int) (*Stream, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("open stream %d: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.guest:
		return nil, fmt.Errorf("open stream %d: a guest opens none: %w", id, errdefs.ErrFailedPrecondition)
	case s.err != nil:
		return nil, fmt.Errorf("open stream %d: %w", id, s.err)
	case s.phase != running:
		return nil, fmt.Errorf("open stream %d: the session has not begun or is being shut down: %w", id, errdefs.ErrFailedPrecondition)
	case id == 0:
		return nil, fmt.Errorf("open stream 0, which is the session's own: %w", errdefs.ErrInvalidArgument)
	case window < 1 || window > MaxWindow:
		return nil, fmt.Errorf("open stream %d with a window of %d bytes, not 1 to %d: %w", id, window, MaxWindow, errdefs.ErrInvalidArgument)
	case s.streams[id] != nil:
		return nil, fmt.Errorf("open stream %d, which one of the ends has not closed yet: %w", id, errdefs.ErrAlreadyExists)
	case len(s.streams) >= s.most:
		return nil, fmt.Errorf("open stream %d: %d streams are open, or not closed by the guest, and no more may be: %w",
			id, len(s.streams), errdefs.ErrResourceExhausted)
	}
	t := s.newStreamLocked(id, window)
	t.opening = true
	t.queueLocked()
	return t, nil
}

// Accept returns the next stream that the host has opened. The caller has to
// close it.
func (s *Session) Accept(ctx context.Context) (*Stream, error) {
	select {
	case t := <-s.accepted:
		t.accept()
		return t, nil
	case <-s.done:
		return nil, s.Err()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// accept lets the stream end: until then the host counts it, and with it what
// waits to be accepted is bounded.
func (t *Stream) accept() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.waiting = false
	t.queueLocked()
}

func (s *Session) newStreamLocked(id uint32, window int) *Stream {
	t := &Stream{s: s, id: id, window: window, allowed: window, credit: window}
	t.readable.L, t.writable.L = &s.mu, &s.mu
	s.streams[id] = t
	return t
}
