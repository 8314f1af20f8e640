// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"io"
	"sync"
)

// tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	buf  []byte // of fixed size
	next int    // where the next byte goes
	full bool
}

func newTail(size int) *tail { return &tail{buf: make([]byte, size)} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if n > len(t.buf) {
		p = p[n-len(t.buf):]
	}
	copied := copy(t.buf[t.next:], p)
	if copied < len(p) {
		copy(t.buf, p[copied:])
	}
	if t.next+len(p) >= len(t.buf) {
		t.full = true
	}
	t.next = (t.next + len(p)) % len(t.buf)
	return n, nil
}

// Bytes is a copy of what is kept, oldest first.
func (t *tail) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.full {
		return append([]byte(nil), t.buf[:t.next]...)
	}
	return append(append(make([]byte, 0, len(t.buf)), t.buf[t.next:]...), t.buf[:t.next]...)
}

// fill copies what r has until its end.
func (t *tail) fill(r io.Reader) {
	// An error is the end: who writes there is gone.
	_, _ = io.CopyBuffer(t, struct{ io.Reader }{r}, make([]byte, 4<<10))
}
