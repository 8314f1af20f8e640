// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// Guest is a machine that runs an agent.
type Guest interface {
	// Conn is the byte stream to the agent. It is closed with the session.
	Conn() io.ReadWriteCloser
	// Pid stands on this kernel for every process in the guest.
	Pid() int
	// Done is closed once the machine has ended; Err then says why.
	Done() <-chan struct{}
	Err() error
	// Kill ends the machine for a reason, which Err then tells. It does not
	// wait.
	Kill(why error)
}

const (
	// endGrace bounds the wait for a machine that was killed. What is left of
	// one after that hangs in the kernel.
	endGrace = 5 * time.Second
	// pingTimeout and pings say when a guest that let a call run out of time
	// is a deaf one.
	pingTimeout = 5 * time.Second
	pings       = 3
)

// remote is what the agent in one guest has made, as the host knows it.
type remote struct {
	guest   Guest
	session *mux.Session
	rpc     *ttrpc.Client
	agent   agentapi.AgentService
	events  *mux.Stream
	work    sync.WaitGroup

	broken  chan error // of the control stream: what the agent did wrong
	failing sync.Once
	dead    chan struct{} // closed once the guest has ended, after why was set
	why     error
	suspect sync.Mutex // one at a time finds out whether the guest is deaf

	mu         sync.Mutex
	lastProc   uint64
	lastStream uint32
	procs      map[uint64]*remoteProc
	cgroups    map[string]*remoteCgroup
}

type remoteProc struct {
	container string
	end       func(process.Exit)
}

// connect begins a session with the agent of a guest. On an error the guest is
// killed.
func connect(ctx context.Context, guest Guest) (_ *remote, retErr error) {
	r := &remote{
		guest: guest, session: mux.Host(guest.Conn(), mux.Config{}), dead: make(chan struct{}),
		broken:     make(chan error, 1),
		lastStream: agentapi.FirstStdioStream - 1,
		procs:      make(map[uint64]*remoteProc), cgroups: make(map[string]*remoteCgroup),
	}
	defer func() {
		if retErr != nil {
			retErr = fmt.Errorf("connect to the agent: %w", retErr)
			r.fail(retErr)
			r.close()
			if err := guest.Err(); err != nil {
				retErr = errors.Join(retErr, err)
			}
		}
	}()
	if err := r.session.Handshake(ctx); err != nil {
		return nil, err
	}
	control, err := r.session.Open(ctx, agentapi.ControlStream, agentapi.ControlWindow)
	if err != nil {
		return nil, err
	}
	if r.events, err = r.session.Open(ctx, agentapi.EventStream, agentapi.EventWindow); err != nil {
		return nil, err
	}
	r.rpc = ttrpc.NewClient(&guard{Conn: control, broken: r.broken}, ttrpc.WithOnClose(func() {
		select {
		case r.broken <- errors.New("the control stream has ended"):
		default: // it is known already why
		}
	}))
	r.agent = agentapi.NewAgentClient(r.rpc)
	r.work.Go(func() { r.fail(r.hear()) })
	r.work.Go(r.watch)
	return r, nil
}

// watch waits for the first sign of the guest's end.
func (r *remote) watch() {
	select {
	case <-r.guest.Done():
		r.fail(r.guest.Err())
	case err := <-r.broken:
		r.fail(err)
	case <-r.session.Done():
		r.fail(fmt.Errorf("the connection to the agent has ended: %w", r.session.Err()))
	case <-r.dead:
	}
}

// fail ends the guest. Whatever was in it has then exited, killed: that is told
// once the machine is gone, or does not go.
func (r *remote) fail(why error) {
	r.failing.Do(func() {
		r.guest.Kill(why)
		timer := time.NewTimer(endGrace)
		defer timer.Stop()
		select {
		case <-r.guest.Done():
			if err := r.guest.Err(); err != nil {
				why = err
			}
		case <-timer.C:
			log.L.WithField("pid", r.guest.Pid()).Warn("the machine does not end after SIGKILL")
		}
		r.why = why
		close(r.dead)
		_ = r.session.Close()
		r.endAll()
	})
}

func (r *remote) endAll() {
	r.mu.Lock()
	procs := r.procs
	r.procs = make(map[uint64]*remoteProc)
	r.mu.Unlock()
	now := time.Now()
	for _, p := range procs {
		p.end(process.Exit{Status: 128 + int(unix.SIGKILL), At: now, Known: true})
	}
}

// close waits for what belongs to a guest that has ended.
func (r *remote) close() {
	if r.rpc != nil {
		_ = r.rpc.Close()
	}
	r.work.Wait()
}

// ended is the error of what is asked of a guest that has ended.
func (r *remote) ended() error {
	return fmt.Errorf("the VM of this pod has ended: %w: %w", r.why, errdefs.ErrUnavailable)
}

// isDead tells whether the guest has ended.
func (r *remote) isDead() bool {
	select {
	case <-r.dead:
		return true
	default:
		return false
	}
}

// newProcess numbers a process that is about to be made, so that its exit can
// be heard of at any time from now on.
func (r *remote) newProcess(container string) (number uint64, p *process.Process, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isDead() {
		return 0, nil, r.ended()
	}
	r.lastProc++
	number = r.lastProc
	p, end := process.Elsewhere(r.guest.Pid(), func(sig unix.Signal) error {
		_, err := call(context.Background(), r, signalTimeout, "send a signal", r.agent.Signal,
			&agentapi.SignalRequest{Process: number, Container: container, Signal: uint32(sig)})
		return err
	})
	r.procs[number] = &remoteProc{container: container, end: end}
	return number, p, nil
}

// forgetProcess is for a process that was not made after all.
func (r *remote) forgetProcess(number uint64) {
	r.mu.Lock()
	delete(r.procs, number)
	r.mu.Unlock()
}

// openStream opens one more stream for stdio.
func (r *remote) openStream(ctx context.Context) (*mux.Stream, error) {
	r.mu.Lock()
	r.lastStream++
	id := r.lastStream
	r.mu.Unlock()
	return r.session.Open(ctx, id, agentapi.StdioWindow)
}
