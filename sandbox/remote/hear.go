// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"time"

	"github.com/containerd/log"

	"berth/process"
	"berth/sandbox/agentapi"
)

// hear takes the guest's events until there are no more, and returns why. What
// is said of a process or a container that is not known (any more) is passed
// over, as long as it is not too much; what cannot be said is the end of the
// guest.
func (r *guest) hear() error {
	var free allowance
	for {
		e, err := agentapi.ReadEvent(r.events)
		if err != nil {
			return fmt.Errorf("hear the agent's events: %w", err)
		}
		paid := false
		switch {
		case e.GetExit() != nil:
			paid, err = r.hearExit(e.GetExit())
		case e.GetOom() != nil:
			r.hearOOM(e.GetOom().Container, e.GetOom().Kills)
			if e.GetOom().Machine && r.maySay(e.GetOom().Container, time.Now()) {
				log.L.WithField("container", e.GetOom().Container).Warn("guest OOM: the VM of the pod has run out of memory, and a process " +
					"of this container, which was within its own limit, was killed; give all containers limits, or the pod more by berth.dev/vm-memory")
			}
		}
		if err == nil && !paid {
			err = free.spend(time.Now())
		}
		if err != nil {
			return err
		}
	}
}

// The events that a guest may tell beside the exits of processes that it was
// asked for: in the long run a thousand a second, which costs the host a percent
// of a CPU and would be the OOM kills of a thousand containers. At once it may
// be all that the stream's window holds, so that no guest dies of a host that
// was stopped for a while.
const (
	freeEvents = 10000
	freePeriod = 10 * time.Second
)

// allowance counts them.
type allowance struct {
	began time.Time // of the period under way
	spent int
}

func (a *allowance) spend(now time.Time) error {
	if now.Sub(a.began) >= freePeriod {
		a.began, a.spent = now, 0
	}
	if a.spent++; a.spent > freeEvents {
		return fmt.Errorf("the agent told more than %d events within %v that nobody asked for", freeEvents, freePeriod)
	}
	return nil
}

// hearExit ends a process, if it lives. The time is this host's, and of the
// status there is no more than a process can have.
func (r *guest) hearExit(e *agentapi.Exit) (lived bool, err error) {
	r.mu.Lock()
	p, known := r.procs[e.Process]
	delete(r.procs, e.Process)
	last := r.lastProc
	r.mu.Unlock()
	if e.Process == 0 || e.Process > last {
		return false, fmt.Errorf("the agent tells of the exit of process %d, which nobody asked for", e.Process)
	}
	if !known {
		return false, nil
	}
	r.hearOOM(p.container, e.OomKills) // first: it explains the exit
	exit := process.Exit{Status: int(e.Status & 0xff), At: time.Now(), Known: e.Known}
	if !e.Known {
		exit.Status = unknownStatus
	}
	p.end(exit)
	return true, nil
}

// unknownStatus is what containerd reports for an exit that nobody saw.
const unknownStatus = 255

// sayAgain is how long what a guest tells of a container is not said again in
// the host's log, which is not the guest's to fill.
const sayAgain = time.Minute

// maySay is true for a container of which nothing was said for so long.
func (r *guest) maySay(container string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	cg := r.cgroups[container]
	if cg == nil || now.Sub(cg.said) < sayAgain {
		return false
	}
	cg.said = now
	return true
}

func (r *guest) hearOOM(container string, kills uint64) {
	r.mu.Lock()
	cg := r.cgroups[container]
	r.mu.Unlock()
	if cg != nil {
		cg.noteKills(kills)
	}
}
