// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"berth/configs"
	"berth/hooks"
	"berth/process"
)

// Config is what a pod is made of.
type Config struct {
	// Namespace is containerd's, not the kernel's.
	Namespace string
	// Supervisor owns every process of the pod.
	Supervisor *process.Supervisor
	// Runtime gives the runtime for a container's options and bundle.
	Runtime func(o configs.Runtime, bundle string) (Runtime, error)
	// Hooks edit each container's spec.
	Hooks hooks.Chain
	// Sink takes all events.
	Sink Sink
	// RunDir is a private directory with a short path, for sockets.
	RunDir string
}

// Pod is a group of containers under one shim.
type Pod struct {
	cfg   Config
	life  context.Context // ends when the pod is closed
	end   context.CancelFunc
	work  sync.WaitGroup // watchers, and hooks that are resident
	grace graces         // how long an init's exit waits

	mu         sync.Mutex
	containers map[string]*Container // nil while a container is being created
	expected   map[string]bool       // containers that were announced and not yet asked for
	unwanted   bool                  // CloseIdle was called since the last container was made
}

// New returns an empty pod.
func New(cfg Config) *Pod {
	life, end := context.WithCancel(context.Background())
	p := &Pod{
		cfg: cfg, life: life, end: end, containers: make(map[string]*Container), expected: make(map[string]bool),
		grace: graces{start: startGrace, kill: killGrace},
	}
	p.serveHooks()
	return p
}

// Create makes a container and returns the pid of its init, 0 where that comes
// with Start (restore). On an error nothing of it is left. The id is taken
// from the first moment, so that a second Create is refused and the pod is
// not idle in between.
func (p *Pod) Create(ctx context.Context, r *CreateRequest) (pid int, err error) {
	if err := hooks.ValidID(r.ID); err != nil {
		return 0, err
	}
	if err := p.reserve(r.ID); err != nil {
		return 0, err
	}
	c := newContainer(p, r)
	if err := c.create(ctx); err != nil {
		p.remove(r.ID)
		return 0, err
	}
	pid = c.announce() // first: nobody may start or delete what was not told of
	p.mu.Lock()
	p.containers[r.ID] = c
	p.unwanted = false
	p.mu.Unlock()
	return pid, nil
}

func (p *Pod) reserve(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil {
		return fmt.Errorf("the pod is shutting down: %w", errdefs.ErrUnavailable)
	}
	if _, ok := p.containers[id]; ok {
		return fmt.Errorf("container %q exists: %w", id, errdefs.ErrAlreadyExists)
	}
	delete(p.expected, id)
	p.containers[id] = nil
	return nil
}

// Expect keeps the pod from being closed as idle until the container is made, or
// known not to come.
func (p *Pod) Expect(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life.Err() != nil {
		return fmt.Errorf("the pod is shutting down: %w", errdefs.ErrUnavailable)
	}
	p.expected[id] = true
	return nil
}

// Dismiss says that nobody will ask for the container any more, and tells whether
// CloseIdle may have reason to close the pod. If not, CloseUnwanted remembers.
func (p *Pod) Dismiss(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.expected, id)
	p.unwanted = true
	return p.idleLocked()
}

// Bundles are those of the containers.
func (p *Pod) Bundles() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for _, c := range p.containers {
		if c != nil {
			list = append(list, c.Bundle())
		}
	}
	return list
}

func (p *Pod) remove(id string) {
	p.mu.Lock()
	delete(p.containers, id)
	p.mu.Unlock()
}

// Container returns a container that was created and not yet deleted.
func (p *Pod) Container(id string) (*Container, error) {
	p.mu.Lock()
	c := p.containers[id]
	p.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("container %q: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

// CloseIdle closes the pod to new containers if it has none, not even one
// that is being created or expected, and says whether it did. If it did not,
// CloseUnwanted remembers.
func (p *Pod) CloseIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unwanted = true
	return p.closeIdleLocked()
}

// CloseUnwanted is CloseIdle after a create that failed: it closes the pod only
// if that was asked for while the create was under way, because nobody will
// ask again.
func (p *Pod) CloseUnwanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unwanted && p.closeIdleLocked()
}

// CloseDeserted is CloseIdle when nobody is there who could make what was
// expected.
func (p *Pod) CloseDeserted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.expected)
	return p.closeIdleLocked()
}

func (p *Pod) idleLocked() bool { return len(p.containers) == 0 && len(p.expected) == 0 }

func (p *Pod) closeIdleLocked() bool {
	if !p.idleLocked() {
		return false
	}
	p.end()
	return true
}

// Close stops watching. Containers that still run are left to `shim delete`. Once ctx
// has ended whoever is still at work is left behind, for a process that ends.
func (p *Pod) Close(ctx context.Context) error {
	p.end()
	done := make(chan struct{})
	go func() { defer close(done); p.work.Wait() }()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("wait for hooks and for what follows processes: %w", context.Cause(ctx))
	}
	p.mu.Lock()
	left := len(p.containers)
	p.mu.Unlock()
	if left > 0 {
		return errors.New("the pod was closed with containers in it")
	}
	return nil
}
