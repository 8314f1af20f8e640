// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

type guestProc struct {
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
		return err
	})
	r.procs[number] = &guestProc{container: container, end: end}
	return number, p, nil
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
