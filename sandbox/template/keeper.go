// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"berth/process"
	"berth/sandbox/vm"
)

const (
	// maxTemplates bounds what a keeper holds: each takes the memory that a
	// booted guest does.
	maxTemplates = 4
	// failedFor is how long what cannot be made is not tried again.
	failedFor = 5 * time.Minute
	// requestTimeout is for who asks and does not read.
	requestTimeout = 5 * time.Second
)

// keeper holds templates, because memory goes with the last process that has it.
type keeper struct {
	// idle is how long a keeper stays that nobody asks for anything.
	idle time.Duration
	// cgroup is below which the machines of templates are, in the form of an
	// OCI spec's cgroupsPath; empty leaves them in the keeper's.
	cgroup string
	sup    *process.Supervisor

	// log is where failures are told.
	log io.Writer
	// leave is called when nothing is left but the place.
	leave func() error
	left  error // what it said

	work sync.WaitGroup
	used chan struct{} // capacity 1: somebody has asked

	mu      sync.Mutex
	last    int                 // number of the last request
	classes map[string]*holding // by class
	retired bool
}

// holding is one template, made or not.
type holding struct {
	request  Request
	made     chan struct{} // closed once it is, or could not be
	template *vm.Template  // nil if it could not
	err      error
	at       time.Time // of the end
	used     int       // number of the last request
	given    int
}

// run keeps templates, the first of which is that of the request, until nobody
// has asked for one for long enough, or ctx ends. It gives up its place when
// nothing is left.
func (k *keeper) run(ctx context.Context, p *place, first *Request) {
	k.used, k.classes = make(chan struct{}, 1), make(map[string]*holding)
	ctx, cancel := context.WithCancel(ctx)
	defer p.close()
	defer func() {
		if k.leave != nil {
			k.left = k.leave()
		}
	}()
	defer k.letGo()
	defer k.work.Wait()
	defer cancel()
	if first != nil {
		k.find(ctx, *first)
	}
	k.work.Go(func() { k.accept(ctx, p.listener) })
	k.awaitIdle(ctx)
	_ = p.listener.Close() // nobody comes any more
}

// awaitIdle waits for the end of the keeper's time.
func (k *keeper) awaitIdle(ctx context.Context) {
	timer := time.NewTimer(k.idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.used:
			k.mu.Lock()
			retired := k.retired
			k.mu.Unlock()
			if retired {
				return
			}
			timer.Reset(k.idle)
		case <-timer.C:
			if !k.making() {
				return
			}
			// What is made then is news, and time begins anew.
		}
	}
}

// making is true while a template is on its way.
func (k *keeper) making() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.classes {
		if !h.done() {
			return true
		}
	}
	return false
}

// find is the template that is asked for, begun if there is none.
func (k *keeper) find(ctx context.Context, r Request) *holding {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	h := k.classes[r.class()]
	if h != nil && (h.request.Key != r.Key || h.stale()) {
		k.dropLocked(h)
		h = nil
	}
	if h == nil {
		k.makeRoomLocked()
		h = &holding{request: r, made: make(chan struct{})}
		k.classes[r.class()] = h
		k.work.Go(func() { k.make(ctx, h) })
	}
	h.used = k.last
	return h
}

// stale is true for a failure that was long ago.
func (h *holding) stale() bool {
	return h.done() && h.err != nil && time.Since(h.at) > failedFor
}

func (h *holding) done() bool {
	select {
	case <-h.made:
		return true
	default:
		return false
	}
}

// make makes a template. Nobody waits for it.
func (k *keeper) make(ctx context.Context, h *holding) {
	c := h.request.config(k.sup, os.Getpid())
	if k.cgroup != "" {
		c.Cgroup = fmt.Sprintf("%s/%d-%s", k.cgroup, os.Getpid(), h.request.Key)
	}
	h.template, h.err = Make(ctx, c, h.request.Sharing)
	h.at = time.Now()
	if h.err != nil {
		_, _ = fmt.Fprintf(k.log, "%s template %s of %d MiB: %v\n", h.at.Format(time.RFC3339), h.request.Key, h.request.MemoryMiB, h.err)
	}
	close(h.made)
	k.touch()
}

// makeRoomLocked drops what was asked for least lately, if there is too much.
func (k *keeper) makeRoomLocked() {
	for len(k.classes) >= maxTemplates {
		var oldest *holding
		for _, h := range k.classes {
			if oldest == nil || h.used < oldest.used {
				oldest = h
			}
		}
		k.dropLocked(oldest)
	}
}

// dropLocked forgets a template, and lets go of it as soon as it is made. Who
// has it by now has descriptors of its own; who is about to get it (give) does not.
func (k *keeper) dropLocked(h *holding) {
	delete(k.classes, h.request.class())
	k.work.Go(func() {
		<-h.made
		k.mu.Lock()
		defer k.mu.Unlock()
		if h.template != nil {
			h.template.Close()
			h.template, h.err = nil, errDropped
		}
	})
}

var errDropped = errors.New("it was dropped for another one")

// letGo is the end, when nothing is under way.
func (k *keeper) letGo() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.classes {
		if h.template != nil {
			h.template.Close()
		}
	}
}
