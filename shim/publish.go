// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/log"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// minBackoff and maxBackoff bound the wait between two attempts.
	// containerd restarts within seconds, and Kick ends the wait anyway.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// journalPatience is how long a new shim waits for the former one of its
	// group, which was shut down and delivers its last events, or for a
	// `delete` that does.
	journalPatience = 10 * time.Second
)

// PublisherConfig says whose events go where.
type PublisherConfig struct {
	// Address is containerd's ttrpc socket. If it is empty nobody wants
	// events, and none are kept.
	Address string
	// Namespace is containerd's.
	Namespace string
	// Skip, if set, says which events of the journal nobody needs any more.
	Skip func(topic string, event *anypb.Any) bool
	// SkipInherited is Skip for what an earlier process left alone.
	SkipInherited func(topic string, event *anypb.Any) bool
	// JournalPath is the file of what is not delivered yet. It is made when
	// needed, and removed by Close if all was delivered.
	JournalPath string
}

// Publisher delivers events to containerd in the order of Publish, each at
// least once, also if containerd is away for long or this process dies.
//
// An event is in the journal before Publish returns, and leaves it once
// containerd has answered. One goroutine sends; it keeps one event in memory,
// and reads the others back from the journal. The same event is tried again
// until it is delivered, so order holds. Only an event that containerd itself
// calls invalid is given up, because it would hold up all others for ever.
//
// The journal is not synced to disk: it guards against the death of the
// process, and no container outlives that of the host.
type Publisher struct {
	cfg    PublisherConfig
	sender sender
	wake   chan struct{} // capacity 1: something was queued
	kick   chan struct{} // capacity 1: containerd is there
	ending chan struct{} // closed by Close: end once the queue is empty
	abort  context.CancelFunc
	done   chan struct{} // closed by run

	mu      sync.Mutex // held for reads and writes of the journal, never for a call
	journal *journal   // nil if nobody wants events
	closed  bool
}

// NewPublisher begins to deliver, first what an earlier process left in the
// journal. One that is still at it is waited for, bounded.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	return newPublisher(cfg, journalPatience)
}

func newPublisher(cfg PublisherConfig, patience time.Duration) (*Publisher, error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Publisher{
		cfg: cfg, sender: sender{address: cfg.Address, skip: cfg.Skip}, abort: cancel,
		wake: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		ending: make(chan struct{}), done: make(chan struct{}),
	}
	if cfg.Address == "" {
		close(p.done)
		return p, nil
	}
	var err error
	if p.journal, err = openJournal(cfg.JournalPath, patience); err != nil {
		cancel()
		return nil, err
	}
	go p.run(ctx)
	return p, nil
}

// Publish queues an event, which may be one that is encoded already, in an
// Any. It does not wait for containerd. What goes wrong
// is in the log: the caller could do nothing about it.
func (p *Publisher) Publish(topic string, event proto.Message) {
	if p.cfg.Address == "" {
		return
	}
	record, err := p.encode(topic, event)
	if err != nil {
		log.L.WithError(err).WithField("topic", topic).Error("an event cannot be sent")
		return
	}
	if err := p.queue(record); err != nil {
		log.L.WithError(err).WithField("topic", topic).Error("an event is not in the journal")
	}
	notify(p.wake)
}

func (p *Publisher) queue(record []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock() // also if it panics, which the sandbox survives
	if p.closed {
		return errors.New("the publisher is closed")
	}
	return p.journal.append(record)
}

func (p *Publisher) encode(topic string, event proto.Message) ([]byte, error) {
	packed, ok := event.(*anypb.Any)
	if !ok {
		value, err := proto.Marshal(event)
		if err != nil {
			return nil, err
		}
		// containerd's own name for a type has no host before it.
		packed = &anypb.Any{TypeUrl: string(event.ProtoReflect().Descriptor().FullName()), Value: value}
	}
	return proto.Marshal(&eventsapi.ForwardRequest{Envelope: &types.Envelope{
		Timestamp: timestamppb.Now(),
		Namespace: p.cfg.Namespace,
		Topic:     topic,
		Event:     packed,
	}})
}

// Kick says that containerd was just heard of: a wait before the next attempt
// ends at once.
func (p *Publisher) Kick() { notify(p.kick) }

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close delivers what it can until ctx ends and leaves the rest in the
// journal, which it says in its error.
func (p *Publisher) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	close(p.ending)
	p.Kick()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.abort()
		<-p.done
	}
	p.abort()
	if p.journal == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.journal.close()
}

// run sends until Close, and then until the queue is empty or ctx ends.
func (p *Publisher) run(ctx context.Context) {
	defer close(p.done)
	defer p.sender.close()
	backoff := minBackoff
	for {
		p.mu.Lock()
		p.sender.skip = p.cfg.Skip
		if p.cfg.SkipInherited != nil && p.journal.inherits() {
			p.sender.skip = p.cfg.SkipInherited
		}
		record, err := p.journal.next()
		p.mu.Unlock()
		if err != nil {
			log.L.WithError(err).Error("events in the journal are lost")
			continue
		}
		if record == nil {
			if !p.waitForWork(ctx) {
				return
			}
			continue
		}
		if err := p.sender.send(ctx, record); err != nil {
			if ctx.Err() != nil {
				return
			}
			if backoff == minBackoff {
				log.L.WithError(err).Warn("containerd does not take an event; it will be tried again")
			}
			backoff = p.pause(ctx, backoff)
			continue
		}
		backoff = minBackoff
		p.mu.Lock()
		err = p.journal.ack()
		p.mu.Unlock()
		if err != nil {
			log.L.WithError(err).Warn("an event that was delivered stays in the journal")
		}
	}
}

// waitForWork returns false once the publisher is to end.
func (p *Publisher) waitForWork(ctx context.Context) bool {
	select {
	case <-p.wake:
		return true
	default:
	}
	select {
	case <-p.wake:
		return true
	case <-p.ending:
	case <-ctx.Done():
		return false
	}
	// What was queued before Close is in the journal by now.
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.journal.empty()
}

// pause waits before the next attempt and returns how long to wait the next
// time.
func (p *Publisher) pause(ctx context.Context, d time.Duration) time.Duration {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return min(2*d, maxBackoff)
	case <-p.kick:
		return 2 * minBackoff // not the minimum, at which it would be logged again
	case <-ctx.Done():
		return d
	}
}

// Replay delivers what a process that has gone left in a journal, and removes
// the journal once it is empty. It does nothing where there is none, or where
// its owner is alive.
func Replay(ctx context.Context, cfg PublisherConfig) error {
	if cfg.Address == "" || !journalExists(cfg.JournalPath) {
		return nil
	}
	p, err := newPublisher(cfg, 0)
	if errors.Is(err, errJournalBusy) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("replay events: %w", err)
	}
	return p.Close(ctx)
}
