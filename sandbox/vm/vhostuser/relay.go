// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// Relay is a device to QEMU, and a monitor to virtiofsd.
type Relay struct {
	monitor *net.UnixConn
	daemon  *net.UnixConn
	open    func() (*os.File, error)
	memory  *memory
	area    *area
	queues  [queues]*queue

	work   sync.WaitGroup
	end    sync.Once
	ended  chan struct{} // closed by End
	failed chan error    // capacity 1: of a queue
}

// New makes a relay, which takes both connections over. open opens the memory of
// the QEMU that the first is a connection to; it is called once that needs it.
func New(monitor, daemon *net.UnixConn, open func() (*os.File, error)) (_ *Relay, retErr error) {
	r := &Relay{monitor: monitor, daemon: daemon, open: open, ended: make(chan struct{}), failed: make(chan error, 1)}
	defer func() {
		if retErr != nil {
			r.close()
		}
	}()
	var err error
	if r.area, err = newArea(); err != nil {
		return nil, err
	}
	for i := range r.queues {
		if r.queues[i], err = newQueue(r.area.desk(i)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Serve relays until QEMU hangs up or End is called, which is no error, or
// something is wrong.
func (r *Relay) Serve() error {
	defer r.close()
	if err := r.introduce(); err != nil {
		return fmt.Errorf("give virtiofsd its queues: %w", err)
	}
	for _, q := range r.queues {
		r.watch(q, q.done)
	}
	err := r.answerMonitor()
	select {
	case err = <-r.failed: // which has ended the other
	default:
	}
	if errors.Is(err, errGone) || errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("relay the shared file system: %w", err)
}

// watch has a queue carry whenever an eventfd says so, until that is closed.
func (r *Relay) watch(q *queue, f *os.File) {
	r.work.Go(func() {
		for await(f) == nil {
			if err := q.carry(); err != nil {
				r.fail(err)
				return
			}
		}
	})
}

// fail ends the relay.
func (r *Relay) fail(err error) {
	select {
	case r.failed <- err:
	default: // one is enough
	}
	r.End()
}

// End has Serve return. It does not wait for that.
func (r *Relay) End() {
	r.end.Do(func() {
		close(r.ended)
		_ = r.monitor.CloseRead()
	})
}

// Discard lets go of a relay that is not to Serve.
func (r *Relay) Discard() { r.close() }

// close ends what runs and lets go of all there is.
func (r *Relay) close() {
	_ = r.monitor.Close()
	_ = r.daemon.Close()
	for _, q := range r.queues {
		if q != nil {
			q.turn.Lock()
			q.close()
			q.turn.Unlock()
		}
	}
	r.work.Wait()
	if r.area != nil {
		r.area.close()
	}
	if r.memory != nil {
		_ = r.memory.file.Close()
	}
}
