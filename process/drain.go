// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// drainGrace bounds how long a drain that ran out of time waits for its relays
// to notice: they only have calls left to make that do not block.
const drainGrace = time.Second

// Drain returns when all that the process wrote before it exited has been
// passed on; call it after the exit. What other holders of the descriptors
// write is not waited for. It is passed on all the same until Close.
//
// A reader that is slow is waited for as long as ctx allows, one that takes
// nothing for a while (limits.stall) is given up. The error then names the
// stream and how many bytes, at least, were dropped, as it does for a stream
// that broke earlier. Without Attach there is nothing to drain.
func (s *Streams) Drain(ctx context.Context) error {
	s.mu.Lock()
	var relays []*relay
	if s.attached {
		relays = s.outputs
	}
	s.mu.Unlock()

	for _, r := range relays {
		r.beginDrain()
	}
	var errs []error
	for _, r := range relays {
		errs = append(errs, r.awaitDrain(ctx))
	}
	return errors.Join(errs...)
}

// beginDrain sets the flag and then wakes the relay from whatever it waits for.
func (r *relay) beginDrain() {
	r.draining.Store(true)
	r.src.wakeReader()
	if r.dst != nil {
		r.dst.limitWriter(time.Now().Add(r.stall))
	}
}

func (r *relay) awaitDrain(ctx context.Context) error {
	select {
	case <-r.drained:
	case <-ctx.Done():
		r.abandoned.Store(true)
		if r.dst != nil {
			r.dst.limitWriter(time.Unix(1, 0))
		}
		if !within(r.drained, drainGrace) {
			return fmt.Errorf("drain %s: at least %d bytes left: %w", r.name, r.lost.Load()+r.pending.Load(), ctx.Err())
		}
	}
	if failure := r.failure.Load(); failure != nil {
		return fmt.Errorf("drain %s: at least %d bytes dropped: %w", r.name, r.lost.Load(), *failure)
	}
	return nil
}

// within reports whether done was closed within d.
func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
