// SPDX-License-Identifier: Apache-2.0

package mux

// HungUp returns a channel that is closed once the peer has closed the stream,
// or the session has ended. It is for whoever holds a stream without reading it.
func (t *Stream) HungUp() <-chan struct{} {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.hungUp == nil {
		t.hungUp = make(chan struct{})
		if t.inClosed || t.s.err != nil {
			close(t.hungUp)
		}
	}
	return t.hungUp
}

// hangUpLocked tells of the one or the other, whichever comes first.
func (t *Stream) hangUpLocked() {
	if t.hungUp != nil && !t.inClosed && t.s.err == nil {
		close(t.hungUp)
	}
}
