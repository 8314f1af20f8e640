// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

type guestProc struct {
	*process.Process
	container string
	end       func(process.Exit)
}

func (r *guest) endAll() {
	r.mu.Lock()
	procs := r.procs
	r.procs = make(map[uint64]*guestProc)
	r.mu.Unlock()
	now := time.Now()
	for _, p := range procs {
		p.end(process.Exit{Status: 128 + int(unix.SIGKILL), At: now, Known: true})
	}
}

// newProcess numbers a process that is about to be made, so that its exit can
// be heard of at any time from now on.
func (r *guest) newProcess(container string) (number uint64, p *process.Process, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isDead() {
		return 0, nil, r.ended()
	}
	r.lastProc++
	number = r.lastProc
	p, end := process.Elsewhere(r.machine.Pid(), func(sig unix.Signal) error {
		if sig == unix.SIGKILL {
			if err := r.wake(context.Background()); err != nil {
				return err
			}
		}
		_, err := call(context.Background(), r, signalTimeout, "send a signal", r.agent.Signal,
			&agentapi.SignalRequest{Process: number, Container: container, Signal: uint32(sig)})
		if r.isDead() {
			return r.gone()
		}
		if err == nil && sig == unix.SIGKILL {
			r.mustEnd(number, p)
		}
		return err
	})
	r.procs[number] = &guestProc{Process: p, container: container, end: end}
	return number, p, nil
}

// killedWithin is how long the end of a process may take after SIGKILL. Nothing in
// a guest waits that long for what could come.
const killedWithin = 2 * time.Minute

// mustEnd ends a guest that does not tell of the end of a process that it was to
// kill: nobody could stop the container, or delete it, for as long as it liked.
func (r *guest) mustEnd(number uint64, p *process.Process) {
	r.work.Go(func() {
		timer := time.NewTimer(killedWithin)
		defer timer.Stop()
		for {
			select {
			case <-p.Done():
				return
			case <-r.dead:
				return
			case <-timer.C:
			}
			r.mu.Lock()
			_, made := r.procs[number]
			r.mu.Unlock()
			if !made {
				return
			}
			if !r.paused.Load() {
				r.fail(fmt.Errorf("the agent has told of no end of a process for %v since it was killed", killedWithin))
				return
			}
			timer.Reset(killedWithin)
		}
	})
}

// mustEndAll is mustEnd for what a container has.
func (r *guest) mustEndAll(container string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for number, p := range r.procs {
		if p.container == container {
			r.mustEnd(number, p.Process)
		}
	}
}

// forgetProcess is for a process that was not made after all.
func (r *guest) forgetProcess(number uint64) {
	r.mu.Lock()
	delete(r.procs, number)
	r.mu.Unlock()
}

// openStream opens one more stream for stdio.
func (r *guest) openStream(ctx context.Context) (*mux.Stream, error) {
	r.mu.Lock()
	r.lastStream++
	id := r.lastStream
	r.mu.Unlock()
	return r.session.Open(ctx, id, agentapi.StdioWindow)
}
