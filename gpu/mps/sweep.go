// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process/cgroup"
)

// Deed is what a sweep did, or with dry would do.
type Deed string

// The deeds.
const (
	Kept    Deed = "kept"
	Stopped Deed = "stopped"
	Failed  Deed = "failed"
)

// Action is what a sweep did about one daemon.
type Action struct {
	Dir   string `json:"dir"`
	Owner *Owner `json:"owner,omitempty"`
	PID   int    `json:"pid,omitempty"` // of the daemon
	Did   Deed   `json:"did"`
	Why   string `json:"why"`
}

// Sweep stops the daemons that nobody uses, or says with dry which it would
// stop. One that somebody starts or stops right now is kept.
func (h *Host) Sweep(ctx context.Context, dry bool) []Action {
	var done []Action
	for _, key := range h.keys() {
		done = append(done, h.sweep(ctx, key, dry)...)
	}
	return done
}

func (h *Host) sweep(ctx context.Context, key string, dry bool) []Action {
	a := Action{Dir: key, Did: Kept}
	p, err := h.lockPod(ctx, key, false, true)
	switch {
	case isGone(err):
		return nil
	case errors.Is(err, unix.EWOULDBLOCK):
		a.Why = "it is being started or stopped"
		return []Action{a}
	case err != nil:
		a.Did, a.Why = Failed, err.Error()
		return []Action{a}
	}
	defer p.unlock()
	a.Why = "its start was not finished"
	if r := p.rec; r != nil {
		a.Owner, a.PID = &r.Owner, r.Daemon.PID
		if r.hidden() {
			a.Why = "whether its containers live cannot be told, since its shim is in another pid namespace"
			return []Action{a}
		}
		if len(r.Members) > 0 && r.used(r.Members) {
			a.Why = "its containers live"
			if r.State == Ready && !r.Alive() {
				a.Why = "it has ended, but its containers live"
			}
			return []Action{a}
		}
		switch r.State {
		case Ready:
			a.Why = "its containers are gone"
		case Stopping:
			a.Why = "it was not stopped to the end"
		}
	}
	a.Did = Stopped
	if dry {
		return []Action{a}
	}
	// Nobody asks it to quit: what the containers left of its sockets would be
	// asked by a process that has no hurry to lose.
	if err := p.stop(ctx); err != nil {
		a.Did, a.Why = Failed, fmt.Sprintf("%s: %v", a.Why, err)
	}
	return []Action{a}
}

// used says whether the shim lives that has these containers, or one of them
// does without it: a shim that was killed leaves its containers to containerd,
// which may be away.
func (r *Record) used(members []Member) bool {
	return r.thisBoot() && (r.hidden() || r.Shim.alive() || slices.ContainsFunc(members, Member.lives))
}

// lives is true where the contrary cannot be shown.
func (m Member) lives() bool {
	if len(m.Cgroup.Dirs) == 0 {
		return false
	}
	cg, err := cgroup.Load(m.Cgroup)
	if errdefs.IsNotFound(err) {
		return false
	}
	if err != nil {
		return true
	}
	defer func() { _ = cg.Close() }()
	pids, err := cg.Pids()
	return err != nil || len(pids) > 0
}
