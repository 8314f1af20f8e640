// SPDX-License-Identifier: Apache-2.0

package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// callTimeout is for a write to an eventfd, which takes no time.
const callTimeout = 10 * time.Second

// answerMonitor does what QEMU says, until it hangs up.
func (r *Relay) answerMonitor() error {
	for {
		m, err := receive(r.monitor)
		if err != nil {
			return err
		}
		err = r.obey(m)
		m.close() // what nobody has taken
		if err != nil {
			return err
		}
	}
}

func (r *Relay) obey(m *message) error {
	switch m.request {
	case getFeatures:
		return r.reply(m, uint64(featureVersion1|featureIndirect|featureProtocol))
	case getProtocolFeatures:
		return r.reply(m, uint64(protocolQueues))
	case getQueueNum:
		return r.reply(m, uint64(queues))
	case setFeatures, setProtocolFeatures, setOwner, resetOwner, setVringErr:
		return nil
	case setMemTable:
		return r.remember(m)
	case setVringKick, setVringCall:
		return r.takeEvent(m)
	case setVringAddr:
		return r.place(m)
	case setVringNum, setVringBase, setVringEnable, getVringBase:
		return r.number(m)
	}
	return fmt.Errorf("the monitor asks %d, which is not known", m.request)
}

func (r *Relay) reply(m *message, fields ...any) error {
	return send(r.monitor, m.request, isReply, nil, fields...)
}

// remember notes where QEMU has the guest's memory. Requests that are under way
// have their addresses already, and QEMU takes no memory away that they are in.
func (r *Relay) remember(m *message) error {
	var n, padding uint32
	if err := m.fields(&n, &padding); err != nil {
		return err
	}
	if n > maxFiles {
		return fmt.Errorf("the guest's memory has %d pieces", n)
	}
	regions := make([]region, n)
	if err := m.fields(&n, &padding, regions); err != nil {
		return err
	}
	next := &memory{regions: regions}
	if r.memory != nil {
		next.file = r.memory.file
	} else {
		var err error
		if next.file, err = r.open(); err != nil {
			return err
		}
	}
	r.memory = next
	for _, q := range r.queues {
		q.turn.Lock()
		q.memory = next
		q.turn.Unlock()
	}
	return nil
}

func (r *Relay) queue(i uint64) (*queue, error) {
	if i >= queues {
		return nil, fmt.Errorf("queue %d, there are %d", i, queues)
	}
	return r.queues[i], nil
}

// takeEvent takes an eventfd of QEMU's.
func (r *Relay) takeEvent(m *message) error {
	var which uint64
	if err := m.fields(&which); err != nil {
		return err
	}
	q, err := r.queue(which &^ noFile)
	if err != nil {
		return err
	}
	f := m.takeFile()
	if f == nil {
		return errors.New("a queue without an eventfd, which would have to be polled")
	}
	q.turn.Lock()
	defer q.turn.Unlock()
	if m.request == setVringCall {
		return r.takeCall(q, f)
	}
	if q.kick != nil {
		_ = q.kick.Close()
	}
	q.kick = f // and with it, the ring stays what it is
	if q.memory == nil {
		return errors.New("a queue before any memory")
	}
	if err := q.ring.resume(q.memory); err != nil {
		return err
	}
	r.watch(q, f)
	return nil
}

// takeCall has a queue ring another bell. The one before has to have been rung: there
// is a thread for each that was not.
func (r *Relay) takeCall(q *queue, f *os.File) error {
	if q.call != nil {
		q.call.close()
		select {
		case <-q.call.gone:
		case <-time.After(callTimeout):
			q.call = nil
			_ = f.Close()
			return errors.New("the monitor's eventfd cannot be written to")
		}
	}
	q.call = newBell(f)
	q.call.ring() // there may be answers that nobody was told of
	return nil
}

// place notes where a queue is.
func (r *Relay) place(m *message) error {
	var i, flags uint32
	var at ring
	if err := m.fields(&i, &flags, &at.descriptors, &at.used, &at.available); err != nil {
		return err
	}
	q, err := r.queue(uint64(i))
	if err != nil {
		return err
	}
	q.turn.Lock()
	defer q.turn.Unlock()
	if err := q.stopped(); err != nil {
		return err
	}
	q.ring.descriptors, q.ring.used, q.ring.available = at.descriptors, at.used, at.available
	return nil
}

// number sets or asks for one number of a queue.
func (r *Relay) number(m *message) error {
	var i, n uint32
	if err := m.fields(&i, &n); err != nil {
		return err
	}
	q, err := r.queue(uint64(i))
	if err != nil {
		return err
	}
	if m.request == getVringBase {
		taken, err := r.stop(q)
		if err != nil {
			return err
		}
		return r.reply(m, i, uint32(taken))
	}
	if err := q.set(m.request, n); err != nil {
		return err
	}
	if m.request == setVringEnable {
		return q.carry() // what was there before
	}
	return nil
}

// stop gives a queue back to QEMU, once virtiofsd has answered what it was asked.
func (r *Relay) stop(q *queue) (taken uint16, _ error) {
	q.turn.Lock()
	if q.kick != nil {
		_ = q.kick.Close()
		q.kick = nil
	}
	var idle chan struct{}
	if q.under > 0 {
		idle = make(chan struct{})
		q.idle = idle
	}
	q.turn.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-r.ended:
			return 0, io.EOF
		}
	}
	q.turn.Lock()
	defer q.turn.Unlock()
	return q.ring.taken, nil
}
