// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"berth/hooks"
)

var _ hooks.Pod = residence{}

// residence is the pod as its hooks see it.
type residence struct{ *Pod }

// serveHooks lets the hooks work that have something to do while the pod lives.
func (p *Pod) serveHooks() {
	for _, h := range p.cfg.Hooks {
		if r, ok := h.(hooks.Resident); ok {
			p.work.Go(func() { r.Serve(p.life, residence{p}) })
		}
	}
}

// Has is true if the process is in the container's cgroup now.
func (p residence) Has(id string, pid int) bool {
	c, err := p.Container(id)
	if err != nil {
		return false
	}
	cg := c.cgroup.Load()
	if cg == nil {
		return false
	}
	pids, err := cg.Pids()
	return err == nil && slices.Contains(pids, pid)
}

// Note puts a line on the container's record.
func (p residence) Note(id, text string) {
	if c, err := p.Container(id); err == nil {
		c.warn(ignoreNotFound(c.Note(text)), "a note is not on record")
	}
}

// Tell publishes an event of a hook, in line with the container's own.
func (p residence) Tell(id string, e hooks.Event) {
	c, err := p.Container(id)
	if err != nil {
		return
	}
	c.mu.Lock()
	c.queueLocked(Event{Kind: HookEvent, Hook: e})
	c.mu.Unlock()
	c.flush()
}

// Kill kills all processes of the container.
func (p residence) Kill(ctx context.Context, id string) error {
	c, err := p.Container(id)
	if err == nil {
		err = c.Kill(ctx, "", unix.SIGKILL, true)
	}
	return ignoreNotFound(err)
}
