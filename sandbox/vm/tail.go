// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"io"
	"sync"
	"time"
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

// A guest writes to its console a byte at a time, and each may wake this process
// up. After some thousands, several times what a guest says from its boot to its
// panic, it is read every few milliseconds; what comes meanwhile waits in the
// socket, and then in QEMU and the guest. That is still as fast as a serial line.
const (
	tailReads = 4096
	tailPause = 4 * time.Millisecond
)

// fill copies what r has until its end, at a pace: as if each read earned the
// next one tailPause later, with tailReads in hand.
func (t *tail) fill(r io.Reader) {
	buf := make([]byte, 4<<10)
	var paid time.Time // until when the reads so far would have taken
	for {
		n, err := r.Read(buf)
		_, _ = t.Write(buf[:n]) // never fails
		if err != nil {
			return // who writes there is gone
		}
		now := time.Now()
		if unused := now.Add(-tailReads * tailPause); paid.Before(unused) {
			paid = unused
		}
		paid = paid.Add(tailPause)
		time.Sleep(paid.Sub(now)) // not at all as long as there are reads in hand
	}
}
