// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// queue carries requests from the guest to virtiofsd, and answers back. Two are
// told when there is something to carry, and either carries all that there is.
type queue struct {
	desk  *desk
	asked *bell    // virtiofsd has something to do
	done  *os.File // eventfd: it has done something

	turn    sync.Mutex // the gate: one carries at a time
	memory  *memory    // nil until QEMU names it
	ring    ring
	enabled bool
	kick    *os.File // QEMU's: the guest has something; nil while it has the queue
	call    *bell    // QEMU's: there is something for the guest
	busy    [slots]*chain
	under   int           // how many are under way
	idle    chan struct{} // closed once nothing is under way; nil if nobody waits
}

func newQueue(d *desk) (*queue, error) {
	q := &queue{desk: d}
	asked, err := newEvent()
	if err != nil {
		return nil, err
	}
	q.asked = newBell(asked)
	if q.done, err = newEvent(); err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

func newEvent() (*os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "eventfd"), nil
}

func (q *queue) close() {
	for _, f := range []*os.File{q.done, q.kick} {
		if f != nil {
			_ = f.Close()
		}
	}
	for _, b := range []*bell{q.asked, q.call} {
		if b != nil {
			b.close()
		}
	}
	q.enabled, q.kick, q.call = false, nil, nil // who still carries rings none of them
}

// set sets a number of the queue. The caller does not have the turn.
func (q *queue) set(what request, n uint32) error {
	q.turn.Lock()
	defer q.turn.Unlock()
	if what == setVringEnable {
		q.enabled = n != 0
		return nil
	}
	if err := q.stopped(); err != nil {
		return err
	}
	if what == setVringNum {
		q.ring.number = n
	} else {
		q.ring.taken = uint16(n)
	}
	return nil
}

// stopped is an error while QEMU may not change the ring: what was checked when the
// queue began has to hold for as long as answers are given back.
func (q *queue) stopped() error {
	if q.kick != nil || q.under > 0 {
		return errors.New("the monitor changes a queue that runs")
	}
	return nil
}

// carry moves what there is, in both directions.
func (q *queue) carry() error {
	q.turn.Lock()
	defer q.turn.Unlock()
	if err := q.answer(); err != nil {
		return err
	}
	if q.idle != nil && q.under == 0 {
		close(q.idle)
		q.idle = nil
	}
	return q.ask()
}

// answer gives the guest what virtiofsd has done.
func (q *queue) answer() error {
	some := false
	for {
		slot, length, ok, err := q.desk.back()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		c := q.busy[slot]
		if c == nil || int(length) > c.inSize {
			return fmt.Errorf("virtiofsd answers with %d bytes what was not asked, or not for as many", length)
		}
		rest := q.desk.in(slot)[:length]
		for _, s := range c.in {
			n := min(s.length, len(rest))
			if n == 0 {
				break
			}
			if err := q.memory.write(rest[:n], s.at); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if err := q.ring.give(q.memory, c, length); err != nil {
			return err
		}
		q.busy[slot], q.desk.free = nil, append(q.desk.free, slot)
		q.under--
		some = true
	}
	if some && q.call != nil {
		q.call.ring()
	}
	return nil
}

// ask gives virtiofsd what the guest wants. What has no place waits for an answer.
func (q *queue) ask() error {
	some := false
	for q.enabled && q.kick != nil && q.memory != nil && len(q.desk.free) > 0 {
		n, err := q.ring.pending(q.memory)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		for range min(n, len(q.desk.free)) {
			if err := q.askOne(); err != nil {
				return err
			}
			some = true
		}
	}
	if some {
		q.asked.ring()
	}
	return nil
}

func (q *queue) askOne() error {
	c, err := q.ring.take(q.memory)
	if err != nil {
		return err
	}
	last := len(q.desk.free) - 1
	slot := q.desk.free[last]
	rest := q.desk.out(slot)
	for _, s := range c.out {
		if err := q.memory.read(rest[:s.length], s.at); err != nil {
			return err
		}
		rest = rest[s.length:]
	}
	q.desk.free = q.desk.free[:last]
	q.busy[slot] = c
	q.under++
	q.desk.hand(slot, c)
	return nil
}
