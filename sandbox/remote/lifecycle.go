// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/sandbox/agentapi"
)

// shutdownGrace is how long a guest may take to end by itself once its last
// container was deleted; it has nothing left to do but to write what it caches.
const shutdownGrace = 3 * time.Second

// lifecycle keeps the guest for as long as there are containers in it.
type lifecycle struct {
	boot  func(context.Context, BootRequest) (Machine, error)
	share share
	// gate serialises the making and the ending of the guest. Containers that
	// come while it boots wait at it, which they have to in any case.
	gate chan struct{}

	mu     sync.Mutex
	guest  *guest            // nil without one
	inside map[string]*guest // by container
}

func newLifecycle(cfg Config) *lifecycle {
	return &lifecycle{boot: cfg.Boot, share: share{cfg.Share}, gate: make(chan struct{}, 1), inside: make(map[string]*guest)}
}

// enter puts a container in the guest, made now if there is none.
func (l *lifecycle) enter(ctx context.Context, id string, spec *specs.Spec) (*guest, error) {
	select {
	case l.gate <- struct{}{}:
		defer func() { <-l.gate }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the VM of the pod: %w", context.Cause(ctx))
	}
	l.mu.Lock()
	r := l.guest
	_, exists := l.inside[id]
	l.mu.Unlock()
	switch {
	case exists:
		return nil, fmt.Errorf("container %q exists: %w", id, errdefs.ErrAlreadyExists)
	case r != nil && r.isDead():
		return nil, r.ended()
	case r == nil:
		var err error
		if r, err = l.begin(ctx, spec); err != nil {
			return nil, err
		}
		r.first = id
		r.work.Go(func() { r.mourn(id) })
	}
	l.mu.Lock()
	l.guest, l.inside[id] = r, r
	l.mu.Unlock()
	return r, nil
}

func (l *lifecycle) begin(ctx context.Context, spec *specs.Spec) (_ *guest, retErr error) {
	if l.boot == nil {
		return nil, fmt.Errorf("no VM is made here: %w", errdefs.ErrFailedPrecondition)
	}
	if err := l.share.open(); err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, l.share.close())
		}
	}()
	began := time.Now()
	machine, err := l.boot(ctx, BootRequest{Spec: spec, Share: l.share.served()})
	if err != nil {
		return nil, fmt.Errorf("boot the VM of the pod: %w", err)
	}
	r, err := connect(ctx, machine)
	if err == nil {
		log.G(ctx).WithField("took", time.Since(began)).Debug("the VM of the pod answers")
	}
	return r, err
}

// mourn says why a guest has ended, which nobody may ever ask.
func (r *guest) mourn(pod string) {
	<-r.dead
	if !r.awaited.Load() {
		log.L.WithError(r.why).WithField("pod", pod).Error("the VM of the pod has ended, and all that was in it")
	}
}

// of is the guest that a container is in, whether that has ended or not.
func (l *lifecycle) of(id string) (*guest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.inside[id]; r != nil {
		return r, nil
	}
	return nil, fmt.Errorf("container %q is in no VM: %w", id, errdefs.ErrNotFound)
}

// inUse is true as long as there is a guest.
func (l *lifecycle) inUse() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guest != nil || len(l.inside) > 0
}

// leave takes a container out, and ends a guest that has none left.
func (l *lifecycle) leave(ctx context.Context, id string) {
	l.gate <- struct{}{} // boot and shutdown are bounded
	defer func() { <-l.gate }()
	l.mu.Lock()
	_, was := l.inside[id]
	delete(l.inside, id)
	var last *guest
	if was && len(l.inside) == 0 {
		last, l.guest = l.guest, nil
	}
	l.mu.Unlock()
	if last != nil {
		last.shutDown(ctx)
		if err := l.share.close(); err != nil {
			log.L.WithError(err).Warn("the pod's share is left behind")
		}
	}
}

// shutDown ends a guest without containers.
func (r *guest) shutDown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	r.awaited.Store(true)
	if !r.isDead() {
		_, err := call(ctx, r, shutdownGrace, "shut down", r.agent.Shutdown, &agentapi.Empty{})
		if err != nil && !r.isDead() {
			log.L.WithError(err).Warn("the guest does not shut down by itself")
		} else {
			select {
			case <-r.dead:
			case <-ctx.Done():
			}
		}
	}
	r.fail(errors.New("the last container was deleted"))
	r.close()
}
