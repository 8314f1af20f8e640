// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Limiter is a Machine that can be told what its pod's containers may have, so
// that it has that much of the host and not more.
type Limiter interface {
	// Size is that with which it was booted. It never has more.
	Size() (memoryMiB, cpus int)
	// Limit may be called again, but not twice at once.
	Limit(ctx context.Context, l Limits) error
}

// limitTimeout is for a few answers of the machine's monitor, and for memory that
// the guest gives back in its own time.
const limitTimeout = 30 * time.Second

// Limits are what the containers of a pod may have together. Zero is no limit.
type Limits struct {
	MemoryMiB   int // with what the guest itself needs
	CPUMilli    int64
	CPUShares   uint64
	CPUSet      string
	OOMScoreAdj *int
}

// mayHave refuses an update that asks for more than the machine was booted with.
func mayHave(m Limiter, was, will demand, all Limits) error {
	memory, cpus := m.Size()
	if will.memory > was.memory && all.MemoryMiB > memory {
		return fmt.Errorf("the containers of the pod would have %d MiB of memory with what the guest needs, and its VM was booted with %d, which cannot grow: "+
			"make the pod again, with room to grow by the annotation berth.dev/vm-memory: %w", all.MemoryMiB, memory, errdefs.ErrInvalidArgument)
	}
	if will.milli > was.milli && all.CPUMilli > int64(cpus)*1000 {
		return fmt.Errorf("the containers of the pod would have %d thousandths of a CPU, and its VM was booted with %d CPUs, which cannot grow: "+
			"make the pod again, with room to grow by the annotation berth.dev/vm-cpus: %w", all.CPUMilli, cpus, errdefs.ErrInvalidArgument)
	}
	return nil
}

// settle tells the machine what its containers may have now. Memory that they no
// longer may have is taken from the guest only if shrink is set: a guest that
// boots or whose container ends has better things to do than to give back what
// it does not use, and does that by itself (free page reporting).
func (r *guest) settle(ctx context.Context, shrink bool) error {
	m, ok := r.machine.(Limiter)
	if !ok || r.isDead() {
		return nil
	}
	select {
	case r.limiting <- struct{}{}:
		defer func() { <-r.limiting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	l := together(r.demands)
	r.mu.Unlock()
	whole, _ := m.Size()
	if l.MemoryMiB == 0 {
		l.MemoryMiB = whole
	}
	l.MemoryMiB = min(l.MemoryMiB, whole)
	if !shrink {
		l.MemoryMiB = max(l.MemoryMiB, r.memory, 0)
		if r.memory == 0 {
			l.MemoryMiB = whole
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limitTimeout)
	defer cancel()
	if err := m.Limit(ctx, l); err != nil {
		return fmt.Errorf("limit the VM of the pod: %w", err)
	}
	r.memory = l.MemoryMiB
	return nil
}

// demand notes what a container may have; nil is one that has gone.
func (r *guest) demand(id string, d *demand) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d == nil {
		delete(r.demands, id)
	} else {
		r.demands[id] = *d
	}
}

// settleOrSay is for what must not fail because of it: the pod's own cgroup,
// above the machine's, holds in any case.
func (r *guest) settleOrSay(ctx context.Context) {
	if err := r.settle(ctx, false); err != nil && !r.isDead() {
		log.L.WithError(err).Warn("the machine keeps the limits that it has")
	}
}

// update changes a container's resources and then the machine's, or before it
// where there are to be more.
func (r *guest) update(ctx context.Context, id string, resources []byte, inGuest func() error) error {
	m, ok := r.machine.(Limiter)
	if !ok {
		return inGuest()
	}
	var changes specs.LinuxResources
	if err := json.Unmarshal(resources, &changes); err != nil {
		return fmt.Errorf("read the resources: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	r.mu.Lock()
	was := r.demands[id]
	will := was.with(&changes)
	r.demands[id] = will
	err := mayHave(m, was, will, together(r.demands))
	if err != nil {
		r.demands[id] = was
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	err = r.settle(ctx, false)
	if err == nil {
		err = inGuest()
	}
	if err != nil {
		r.demand(id, &was)
		r.settleOrSay(context.WithoutCancel(ctx))
		return err
	}
	return r.settle(ctx, will.memory != was.memory)
}
