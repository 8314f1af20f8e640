// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"berth/sandbox/agentapi"
)

// Pauser is a Machine whose CPUs can be stopped: nothing in it runs, not even its
// kernel, and what it is told waits.
type Pauser interface {
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
}

// pauseTimeout is for an answer of the machine's monitor.
const pauseTimeout = 10 * time.Second

// froze notes that a container is frozen in the guest, and stops a machine in
// which all are.
func (r *guest) froze(ctx context.Context, id string) error {
	m, ok := r.machine.(Pauser)
	if !ok {
		return nil
	}
	return r.alone(ctx, func(ctx context.Context) error {
		r.mu.Lock()
		r.frozen[id] = true
		all := true
		for id := range r.cgroups { // also of those that are being made
			all = all && (r.demands[id].isSandbox || r.frozen[id])
		}
		r.mu.Unlock()
		if !all {
			return nil
		}
		// Calls are refused first: one that came in between would hang.
		r.paused.Store(true)
		r.clockLate.Store(true)
		if err := m.Pause(ctx); err != nil {
			r.paused.Store(false)
			return fmt.Errorf("stop the VM of the pod: %w", err)
		}
		return nil
	})
}

// wake lets a machine run that was stopped, whatever in it is frozen still.
func (r *guest) wake(ctx context.Context) error {
	m, ok := r.machine.(Pauser)
	if !ok || !r.paused.Load() || r.isDead() {
		return nil
	}
	return r.alone(ctx, func(ctx context.Context) error {
		if !r.paused.Load() {
			return nil
		}
		if err := m.Resume(ctx); err != nil {
			// Nothing in it could be ended or deleted any more.
			r.fail(fmt.Errorf("the machine was stopped and cannot go on: %w", err))
			return nil
		}
		r.paused.Store(false)
		r.volumes.lookAgain()
		return nil
	})
}

// setClock gives a guest that has been stopped the time, before anything runs in
// it again.
func (r *guest) setClock(ctx context.Context) error {
	if !r.clockLate.Load() {
		return nil
	}
	_, err := call(ctx, r, readTimeout, "set the clock of the guest", r.agent.SetClock, &agentapi.ClockRequest{Time: time.Now().UnixNano()})
	if err == nil {
		r.clockLate.Store(false)
	}
	return err
}

// thawed notes that a container is not frozen, or not there, any more.
func (r *guest) thawed(id string) {
	r.mu.Lock()
	delete(r.frozen, id)
	r.mu.Unlock()
}

// alone is the gate of those who stop the machine or let it go on. What has begun
// is finished, whoever has gone.
func (r *guest) alone(ctx context.Context, do func(context.Context) error) error {
	select {
	case r.stopping <- struct{}{}:
		defer func() { <-r.stopping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pauseTimeout)
	defer cancel()
	return do(ctx)
}

// errPaused is for what is asked of a guest whose machine is stopped.
func errPaused(what string) error {
	return fmt.Errorf("%s: the VM of this pod is paused, because all of its containers are; resume one first: %w", what, errdefs.ErrUnavailable)
}
