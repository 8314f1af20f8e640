// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// Machine runs a guest, and in it an agent.
type Machine interface {
	// Conn is the byte stream to the agent. It is closed with the session.
	Conn() io.ReadWriteCloser
	// Network is what the guest's is to be; nil leaves it as it is.
	Network() *agentapi.NetworkRequest
	// Pid stands on this kernel for every process in the guest.
	Pid() int
	// Done is closed once the machine has ended; Err then says why.
	Done() <-chan struct{}
	Err() error
	// Kill ends the machine for a reason, which Err then tells. It does not
	// wait.
	Kill(why error)
	// Close waits until nothing of a machine that was killed is left.
	Close(ctx context.Context) error
}

const (
	// endGrace bounds the wait for a machine that was killed. What is left of
	// one after that hangs in the kernel.
	endGrace = 5 * time.Second
	// hangUpGrace is for a machine that ends: it lets go of the agent's port in the
	// middle of that, and knows better why it ends than who sees that.
	hangUpGrace = 500 * time.Millisecond
	// pingTimeout and pings say when a guest that let a call run out of time
	// is a deaf one.
	pingTimeout = 5 * time.Second
	pings       = 3
	// greetTimeout is what an emulated guest needs to boot on a busy host, and
	// several times that.
	greetTimeout = time.Minute
)

// guest is what the agent in one machine has made, as the host knows it.
type guest struct {
	machine Machine
	first   string // the container that it was made for
	session *mux.Session
	rpc     *ttrpc.Client
	agent   agentapi.AgentService
	events  *mux.Stream
	work    sync.WaitGroup
	volumes *volumes
	hostV1  bool // the host's metrics are those of cgroup v1

	broken  chan error // of the control stream: what the agent did wrong
	failing sync.Once
	dead    chan struct{} // closed once the guest has ended, after why was set
	why     error
	// awaited is true once the guest's end is wanted.
	awaited  atomic.Bool
	silence  silence
	patience patience
	late     chan struct{}            // capacity 1: who gives the guest a later network
	untold   *agentapi.NetworkRequest // that network, until the guest has it. Who is in late has it
	suspect  sync.Mutex               // one at a time finds out whether the guest is deaf
	disks    disks

	paused   atomic.Bool   // the machine is stopped; changed by who is in the gate
	stopping chan struct{} // that gate
	// clockLate is true when the machine was stopped and the guest has not been told
	// the time since.
	clockLate atomic.Bool
	limiting  chan struct{} // a gate: one at a time limits the machine
	memory    int           // that the guest was last left with, in MiB; 0 is all. Who is in the gate has it

	mu         sync.Mutex
	demands    map[string]demand // by container
	frozen     map[string]bool   // by container
	undeleted  map[string]bool   // containers that the guest has refused to delete
	users      *os.File          // the pod's user namespace on the host, or nil
	lastProc   uint64
	lastStream uint32
	procs      map[uint64]*guestProc
	cgroups    map[string]*guestCgroup
}

// connect begins a session with the agent of a guest. On an error the guest is
// killed.
func connect(ctx context.Context, m Machine) (_ *guest, retErr error) {
	r := &guest{
		machine: m, session: mux.Host(m.Conn(), mux.Config{}), dead: make(chan struct{}),
		broken:  make(chan error, 1),
		volumes: newVolumes(), hostV1: hasV1(),
		limiting: make(chan struct{}, 1), demands: make(map[string]demand),
		stopping: make(chan struct{}, 1), frozen: make(map[string]bool), undeleted: make(map[string]bool),
		late:       make(chan struct{}, 1),
		lastStream: agentapi.FirstStdioStream - 1,
		procs:      make(map[uint64]*guestProc), cgroups: make(map[string]*guestCgroup),
	}
	defer func() {
		if retErr != nil {
			retErr = fmt.Errorf("connect to the agent: %w", retErr)
			r.fail(retErr)
			r.close()
			if err := m.Err(); err != nil {
				retErr = errors.Join(retErr, err)
			}
		}
	}()
	greeted, cancel := context.WithTimeoutCause(ctx, greetTimeout, fmt.Errorf("the agent has not answered for %v", greetTimeout))
	defer cancel()
	if err := r.session.Handshake(greeted); err != nil {
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
	if n := m.Network(); n != nil {
		if _, err := call(ctx, r, networkTimeout, "set up the network", r.agent.SetUpNetwork, n); err != nil {
			return nil, err
		}
	}
	r.forward()
	return r, nil
}

// watch waits for the first sign of the guest's end.
func (r *guest) watch() {
	select {
	case <-r.machine.Done():
		r.fail(r.machine.Err())
	case err := <-r.broken:
		r.fail(err)
	case <-r.session.Done():
		r.fail(r.session.Err())
	case <-r.dead:
	}
}

// fail ends the guest. Whatever was in it has then exited, killed: that is told
// once the machine is gone, or does not go.
func (r *guest) fail(why error) {
	if err := r.session.Err(); hungUp(err) {
		why = fmt.Errorf("the connection to the agent has ended: %w", err)
		r.awaitMachine(hangUpGrace)
	}
	r.failing.Do(func() {
		r.machine.Kill(why)
		if r.awaitMachine(endGrace) {
			if err := r.machine.Err(); err != nil {
				why = err
			}
		} else {
			log.L.WithField("pid", r.machine.Pid()).Warn("the machine does not end after SIGKILL")
		}
		r.why = why
		close(r.dead)
		if errors.Is(why, ErrOutOfMemory) {
			r.noteOOM()
		}
		_ = r.session.Close()
		r.endAll()
	})
}

// awaitMachine is false if the machine does not end in time.
func (r *guest) awaitMachine(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.machine.Done():
		return true
	case <-timer.C:
		return false
	}
}

// hungUp is true for the end of a session whose transport has ended.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// ErrOutOfMemory is for the Err of a machine that ended because there was no
// memory, on the host or in the guest.
var ErrOutOfMemory = errors.New("out of memory")

// noteOOM has the exits of all containers be explained by the want of memory.
func (r *guest) noteOOM() {
	r.mu.Lock()
	cgroups := slices.Collect(maps.Values(r.cgroups))
	r.mu.Unlock()
	for _, cg := range cgroups {
		kills, _ := cg.OOMKills() // there is no error
		cg.noteKills(kills + 1)
	}
}

// close waits for what belongs to a guest that has ended.
func (r *guest) close() {
	if r.rpc != nil {
		_ = r.rpc.Close()
	}
	r.volumes.close()
	if users := r.userNamespace(); users != nil {
		_ = users.Close()
	}
	r.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), endGrace)
	defer cancel()
	if err := r.machine.Close(ctx); err != nil {
		log.L.WithError(err).Warn("something of the machine is left")
	}
}

// ended is the error of what is asked of a guest that has ended.
func (r *guest) ended() error {
	return fmt.Errorf("the VM of this pod has ended: %w: %w", r.why, errdefs.ErrUnavailable)
}

// gone is the error of a signal to what was in a guest that has ended: it has
// ended too, as a process has that exits before a signal comes.
func (r *guest) gone() error {
	return fmt.Errorf("the VM of this pod has ended, and all in it: %v: %w", r.why, errdefs.ErrNotFound)
}

// isDead tells whether the guest has ended.
func (r *guest) isDead() bool {
	select {
	case <-r.dead:
		return true
	default:
		return false
	}
}
