// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// making is a container on its way.
type making struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it is there, or nothing of it
}

// reserve takes a container's name. made is called at the end of its making,
// which a Delete cuts short.
func (s *server) reserve(ctx context.Context, id string) (_ context.Context, made func(), _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.containers[id]; ok {
		return nil, nil, fmt.Errorf("container %q exists: %w", id, errdefs.ErrAlreadyExists)
	}
	ctx, cancel := context.WithCancel(ctx)
	m := &making{cancel: cancel, done: make(chan struct{})}
	s.containers[id], s.making[id] = nil, m
	return ctx, func() {
		cancel()
		s.mu.Lock()
		delete(s.making, id)
		s.mu.Unlock()
		close(m.done)
	}, nil
}

// giveUp has a container that is being made not be made.
func (s *server) giveUp(ctx context.Context, id string) error {
	s.mu.Lock()
	m := s.making[id]
	s.mu.Unlock()
	if m == nil {
		return nil
	}
	m.cancel()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the making of container %q: %w", id, ctx.Err())
	}
}
