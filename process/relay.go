// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// relayChunk is the size in bytes of a relay's buffer: half a pipe, so that
// writer and reader both have room while a chunk is on its way.
const relayChunk = 32 << 10

// consoleBacklog is more than the kernel queues between the two ends of a pty:
// 8 KiB of flip buffers (pty_common_install, drivers/tty/pty.c) and 4 KiB in the
// line discipline.
const consoleBacklog = 64 << 10

// relay copies one stream in a goroutine of its own. While there is nothing to
// copy it waits in the netpoller and holds no buffer.
//
// An output whose destination fails, or that was given up in a drain, is read
// on and thrown away, so that the writer never blocks on it.
type relay struct {
	name    string
	src     *endpoint
	dst     *endpoint // nil: throw away
	input   bool      // to the process: ends when the process no longer reads
	stall   time.Duration
	buffers *sync.Pool // of *[relayChunk]byte

	stopping, draining, abandoned atomic.Bool

	drained chan struct{} // closed when what was owed at the drain has been dealt with
	done    chan struct{} // closed when the goroutine has ended

	failure atomic.Pointer[error] // why the destination is no longer written to
	lost    atomic.Int64          // bytes thrown away since
	pending atomic.Int64          // bytes read and not yet written

	// Of the goroutine alone.
	measured bool  // owed is known
	owed     int64 // bytes still to deal with before the relay is drained
	settled  bool  // drained is closed
}

func (s *Streams) newRelay(name string, src, dst *endpoint) *relay {
	return &relay{name: name, src: src, dst: dst, stall: s.limits.stall, buffers: &s.buffers,
		drained: make(chan struct{}), done: make(chan struct{})}
}

// run copies until the end of the source or stop. It releases both ends, so
// that the reader at the far end sees an end of file then.
func (r *relay) run() {
	defer close(r.done)
	defer r.setDrained()
	defer r.release()
	for {
		buf, n, err := r.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Woken: look at the flags, which are set before the deadline is.
			r.src.rearmReader()
			if r.stopping.Load() {
				return
			}
			continue
		}
		if n > 0 {
			r.pending.Store(int64(n))
			r.write(buf[:n])
			r.pending.Store(0)
			r.settle(int64(n))
		}
		if buf != nil {
			r.buffers.Put(buf)
		}
		if n <= 0 || err != nil || r.stopping.Load() || r.input && r.failure.Load() != nil {
			return
		}
	}
}

func (r *relay) release() {
	r.src.release()
	r.dst.release()
}

// read waits for data and takes a buffer only when there may be some. The
// caller puts the buffer back. n is 0 at the end of the stream; a terminal
// ends with EIO, see measure.
func (r *relay) read() (buf *[relayChunk]byte, n int, err error) {
	waitErr := r.src.raw.Read(func(fd uintptr) bool {
		r.measure(int(fd))
		buf = r.buffers.Get().(*[relayChunk]byte)
		n, err = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), buf[:]) })
		if err != unix.EAGAIN { //nolint:errorlint // a bare errno of the call
			return true
		}
		r.buffers.Put(buf)
		buf, n = nil, 0
		if r.measured {
			r.setDrained()
		}
		return false
	})
	if waitErr != nil {
		return nil, 0, waitErr
	}
	return buf, n, err
}

// measure finds out, once a drain was asked for, how much the source holds.
//
// The process has exited then, so all that it wrote is in the source: the
// relay is drained after that many bytes, or as soon as the source is empty,
// and does not wait for other writers, who may be there for ever.
//
// For a pipe, TIOCINQ (which is FIONREAD) counts it all. For a pty it leaves out the flip buffers,
// which a kernel worker moves to where a read finds them; but a read that finds
// nothing first waits for that worker (n_tty_read, drivers/tty/n_tty.c), so that
// EAGAIN means empty there too, and EIO that the last slave was closed as well.
func (r *relay) measure(fd int) {
	if r.measured || !r.draining.Load() {
		return
	}
	r.measured, r.owed = true, consoleBacklog
	if r.src.tty {
		return
	}
	if n, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err == nil {
		r.owed = int64(n)
	}
	r.settle(0)
}

func (r *relay) settle(n int64) {
	if r.measured {
		if r.owed -= n; r.owed <= 0 {
			r.setDrained()
		}
	}
}

func (r *relay) setDrained() {
	if !r.settled {
		r.settled = true
		close(r.drained)
	}
}

// write delivers p, or counts it as lost. It waits for the reader for ever, but
// only for a while when a drain waits for the relay.
func (r *relay) write(p []byte) {
	if r.dst == nil {
		return
	}
	for len(p) > 0 && r.failure.Load() == nil {
		if r.limited() {
			// Each write that is accepted gives the reader the full time again.
			r.dst.limitWriter(time.Now().Add(r.stall))
		}
		if r.stopping.Load() || r.limited() && r.abandoned.Load() {
			// Looked at after the limit was set, because who sets these flags
			// sets a limit in the past afterwards.
			r.dst.limitWriter(time.Unix(1, 0))
		}
		n, err := r.writeSome(p)
		p = p[n:]
		r.pending.Store(int64(len(p)))
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if !r.stopping.Load() && !r.limited() {
				r.dst.limitWriter(time.Time{}) // left from a drain
				continue
			}
			err = errNoReader
		}
		err = fmt.Errorf("write to %s: %w", r.dst.name, err)
		r.failure.Store(&err)
	}
	r.lost.Add(int64(len(p)))
}

// limited is whether somebody waits in Drain for what is being written.
func (r *relay) limited() bool { return r.draining.Load() && !r.settled }

// errNoReader ends the delivery of a stream that has been full for too long.
var errNoReader = errors.New("full, and nobody reads it")

func (r *relay) writeSome(p []byte) (n int, err error) {
	waitErr := r.dst.raw.Write(func(fd uintptr) bool {
		n, err = ignoringEINTR(func() (int, error) { return unix.Write(int(fd), p) })
		return err != unix.EAGAIN //nolint:errorlint // a bare errno of the call
	})
	if waitErr != nil {
		err = waitErr
	}
	return max(n, 0), err
}

// stop makes run return soon; it does not wait.
func (r *relay) stop() {
	r.stopping.Store(true)
	r.src.wakeReader()
	if r.dst != nil {
		r.dst.limitWriter(time.Unix(1, 0))
	}
}
