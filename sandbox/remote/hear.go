// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"time"

	"berth/process"
	"berth/sandbox/agentapi"
)

// hear takes the guest's events until there are no more, and returns why. What
// is said of a process or a container that is not known (any more) is passed
// over; what cannot be said is the end of the guest.
func (r *guest) hear() error {
	for {
		e, err := agentapi.ReadEvent(r.events)
		if err != nil {
			return fmt.Errorf("hear the agent's events: %w", err)
		}
		switch {
		case e.GetExit() != nil:
			err = r.hearExit(e.GetExit())
		case e.GetOom() != nil:
			r.hearOOM(e.GetOom().Container, e.GetOom().Kills)
		}
		if err != nil {
			return err
		}
	}
}

// hearExit ends a process. The time is this host's, and of the status there is
// no more than a process can have.
func (r *guest) hearExit(e *agentapi.Exit) error {
	r.mu.Lock()
	p, known := r.procs[e.Process]
	delete(r.procs, e.Process)
	last := r.lastProc
	r.mu.Unlock()
	if e.Process == 0 || e.Process > last {
		return fmt.Errorf("the agent tells of the exit of process %d, which nobody asked for", e.Process)
	}
	if !known {
		return nil
	}
	r.hearOOM(p.container, e.OomKills) // first: it explains the exit
	exit := process.Exit{Status: int(e.Status & 0xff), At: time.Now(), Known: e.Known}
	if !e.Known {
		exit.Status = unknownStatus
	}
	p.end(exit)
	return nil
}

// unknownStatus is what containerd reports for an exit that nobody saw.
const unknownStatus = 255

func (r *guest) hearOOM(container string, kills uint64) {
	r.mu.Lock()
	cg := r.cgroups[container]
	r.mu.Unlock()
	if cg != nil {
		cg.noteKills(kills)
	}
}
