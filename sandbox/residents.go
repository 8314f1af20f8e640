// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"berth/hooks"
)

// Bounds of what a hook may put on record of one container.
const (
	maxNotes = 16
	maxNote  = 256 // bytes
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

// Note puts a line on the container's record. What is beyond the bounds is
// left out: the first notes tell the cause.
func (p residence) Note(id, text string) {
	c, err := p.Container(id)
	if err != nil {
		return
	}
	c.warn(c.updateRecord(func(r *record) {
		if len(r.Notes) < maxNotes {
			r.Notes = append(r.Notes, text[:min(len(text), maxNote)])
		}
	}), "a note is not on record")
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
