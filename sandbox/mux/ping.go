// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// pings are what a session has asked and answered. A pong answers the ping of
// its number and those before it, so a side that cannot write for a while owes
// one pong and not one for each ping.
type pings struct {
	asked   uint32                   // the last ping, by number
	sent    uint32                   // the last one that was sent; all before it were, or need not be
	heard   uint32                   // of a host: the last one that was answered; of a guest: that was received
	owed    bool                     // a guest has to answer it
	waiting map[uint32]chan struct{} // closed when the ping has been answered
}

// Ping returns when the guest has answered, which it does unless it or the
// transport stands still. Nothing is sent unless somebody asks: a guest that is
// paused on purpose is not dead. Only a host pings.
func (s *Session) Ping(ctx context.Context) error {
	n, answered, err := s.ask()
	if err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	defer s.unask(n)
	select {
	case <-answered:
		return nil
	case <-s.done:
		return fmt.Errorf("ping: %w", s.Err())
	case <-ctx.Done():
		return fmt.Errorf("ping: %w", context.Cause(ctx))
	}
}

func (s *Session) ask() (uint32, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, nil, s.err
	case s.guest || s.phase != running:
		return 0, nil, fmt.Errorf("only a host pings, and in a session: %w", errdefs.ErrFailedPrecondition)
	}
	p := &s.pings
	p.asked++
	answered := make(chan struct{})
	if p.waiting == nil {
		p.waiting = make(map[uint32]chan struct{})
	}
	p.waiting[p.asked] = answered
	s.wake.Signal()
	return p.asked, answered, nil
}

func (s *Session) unask(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pings.waiting, n)
}

// put writes the ping or pong that is due and returns its size.
func (p *pings) put(buf []byte) int {
	switch {
	case p.sent < p.asked:
		p.sent = p.asked
		return putNumber(buf, 0, kindPing, p.sent)
	case p.owed:
		p.owed = false
		return putNumber(buf, 0, kindPong, p.heard)
	}
	return 0
}

func (s *Session) takePingLocked(n uint32) error {
	p := &s.pings
	if !s.guest || n <= p.heard {
		return violation("ping %d came after %d; a guest sends none, and a host counts them", n, p.heard)
	}
	p.heard, p.owed = n, true
	s.wake.Signal()
	return nil
}

func (s *Session) takePongLocked(n uint32) error {
	p := &s.pings
	if s.guest || n <= p.heard || n > p.sent {
		return violation("pong %d came after pong %d and ping %d", n, p.heard, p.sent)
	}
	p.heard = n
	for asked, answered := range p.waiting {
		if asked <= n {
			close(answered)
			delete(p.waiting, asked)
		}
	}
	return nil
}
