// SPDX-License-Identifier: Apache-2.0

package mux

import (
	"sync"
	"time"
)

// deadline is when reads, or writes, return. The session's lock guards it.
type deadline struct {
	timer  *time.Timer
	passed bool
}

// stop takes back what set did.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.passed = false
}

// set has those that wait look again, now and at the time given.
func (d *deadline) set(at time.Time, waiters *sync.Cond) {
	d.stop()
	defer waiters.Broadcast()
	if at.IsZero() {
		return
	}
	left := time.Until(at)
	if left <= 0 {
		d.passed = true
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		waiters.L.Lock()
		defer waiters.L.Unlock()
		if d.timer == timer { // and not of a deadline that was replaced
			d.passed = true
			waiters.Broadcast()
		}
	})
	d.timer = timer
}

// SetDeadline sets both deadlines.
func (t *Stream) SetDeadline(at time.Time) error {
	_ = t.SetReadDeadline(at)
	return t.SetWriteDeadline(at)
}

// SetReadDeadline has reads return at a time, those under way included. The
// zero time is none.
func (t *Stream) SetReadDeadline(at time.Time) error {
	return t.setDeadline(&t.readBy, at, &t.readable)
}

// SetWriteDeadline does so for writes.
func (t *Stream) SetWriteDeadline(at time.Time) error {
	return t.setDeadline(&t.writeBy, at, &t.writable)
}

func (t *Stream) setDeadline(d *deadline, at time.Time, waiters *sync.Cond) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if !t.closed {
		d.set(at, waiters)
	}
	return nil
}
