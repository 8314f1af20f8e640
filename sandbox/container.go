// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"berth/configs"
	"berth/process"
	"berth/process/cgroup"
)

// CreateRequest asks for a container.
type CreateRequest struct {
	ID string
	// Bundle is the absolute path of the directory with config.json.
	Bundle string
	// Rootfs is mounted at Bundle/rootfs; nothing is where it is empty.
	Rootfs  []Mount
	Stdio   process.Stdio
	Options configs.Runtime
	// Checkpoint is the image directory to restore from, if any. The
	// container is then made by Start.
	Checkpoint string
	// ParentCheckpoint is the checkpoint that Checkpoint was made relative to.
	ParentCheckpoint string
}

// proc is one process of a container as a client sees it: the init, or an exec.
type proc struct {
	id      string // empty for the init
	stdio   process.Stdio
	exited  chan struct{} // closed once exit is final
	state   State         // this and what follows: guarded by Container.mu
	os      *process.Process
	exit    process.Exit
	streams Streams
}

func newProc(id string, stdio process.Stdio) proc {
	return proc{id: id, stdio: stdio, exited: make(chan struct{}), state: Created}
}

// pid is 0 as long as there is no process. Container.mu is held.
func (p *proc) pid() int {
	if p.os == nil {
		return 0
	}
	return p.os.Pid()
}

// abandonLocked ends a process that was never started: there was no start to
// tell of, so there is no exit to tell of, but Wait returns and Delete works.
// Container.mu is held.
func (p *proc) abandonLocked() {
	if p.state != Created {
		return
	}
	p.state, p.exit = Stopped, process.Exit{Status: unknown, At: time.Now()}
	close(p.exited)
}

// unknown is the exit status of what never ran, as containerd reports it.
const unknown = 255

// Container is an init, its execs, and what they share.
type Container struct {
	pod *Pod
	req *CreateRequest
	rt  Runtime
	at  Kernel // where rt has it
	// cgroupsPath is the spec's, set by create.
	cgroupsPath string
	claimed     func() *cgroup.Location // see claimCgroup

	// gate serialises the verbs that change the container as a whole. It also
	// guards deleted.
	gate    gate
	deleted bool
	// recordGate guards rec and its file.
	recordGate gate
	rec        record
	// outboxGate makes flush the only one that hands events to the sink.
	outboxGate gate

	// cgroup is nil until there is an init, and where it died too early.
	cgroup cgroupRef
	oom    io.Closer // set before the init's watcher starts

	// starts ends the runtime calls of starts that outlive their init.
	starts    context.Context
	cutStarts context.CancelFunc

	mu       sync.Mutex
	init     proc
	execs    map[string]*Exec
	ending   bool          // the init is dead: nothing new may start
	inflight int           // starts that are under way
	idle     chan struct{} // closed when inflight falls to 0; nil if nobody waits
	oomSeen  uint64        // OOM kills that were told
	outbox   []Event
}

func newContainer(p *Pod, r *CreateRequest) *Container {
	c := &Container{
		pod: p, req: r,
		gate: newGate(), recordGate: newGate(), outboxGate: newGate(),
		rec:   record{ID: r.ID, Namespace: p.cfg.Namespace, Runtime: r.Options},
		init:  newProc("", r.Stdio),
		execs: make(map[string]*Exec),
	}
	c.starts, c.cutStarts = context.WithCancel(context.Background())
	return c
}

// Bundle is the container's bundle directory.
func (c *Container) Bundle() string { return c.req.Bundle }

// Status is what is known of a process. It is answered from memory.
type Status struct {
	Pid   int
	State State
	Stdio process.Stdio
	Exit  process.Exit
}

// Status returns the state of the init (exec empty) or of an exec.
func (c *Container) Status(exec string) (Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.procLocked(exec)
	if err != nil {
		return Status{}, err
	}
	return Status{Pid: p.pid(), State: p.state, Stdio: p.stdio, Exit: p.exit}, nil
}

// procLocked finds a process by exec id. c.mu is held.
func (c *Container) procLocked(exec string) (*proc, error) {
	if exec == "" {
		return &c.init, nil
	}
	e, ok := c.execs[exec]
	if !ok {
		return nil, fmt.Errorf("exec %q in container %q: %w", exec, c.req.ID, errdefs.ErrNotFound)
	}
	return &e.proc, nil
}

// Wait returns how a process ended once it has, or when ctx ends before.
func (c *Container) Wait(ctx context.Context, exec string) (process.Exit, error) {
	c.mu.Lock()
	p, err := c.procLocked(exec)
	c.mu.Unlock()
	if err != nil {
		return process.Exit{}, err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		select {
		case <-p.exited: // of two that are ready, select takes any
		default:
			return process.Exit{}, context.Cause(ctx)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.exit, nil
}

// queueLocked puts an event in line. c.mu is held; flush must follow.
func (c *Container) queueLocked(e Event) {
	e.Container = c.req.ID
	c.outbox = append(c.outbox, e)
}

// flush hands the queued events to the sink and returns when those that were
// queued before the call have been taken. A panic of the sink costs the event that
// it meets, and neither those behind it nor the caller, who may have queued none of
// them.
func (c *Container) flush() {
	c.outboxGate <- struct{}{}
	defer c.outboxGate.leave()
	for {
		c.mu.Lock()
		out := c.outbox
		c.outbox = nil
		c.mu.Unlock()
		if len(out) == 0 {
			return
		}
		for _, e := range out {
			c.despite(func() { c.pod.cfg.Sink(e) })
		}
	}
}

// updateRecord changes the container's record and writes it to the bundle.
func (c *Container) updateRecord(change func(*record)) error {
	c.recordGate <- struct{}{}
	defer c.recordGate.leave()
	change(&c.rec)
	return c.rec.write(c.req.Bundle)
}

// Note keeps a line with the container's record, to explain its exit. The first
// maxNotes are kept, the others dropped; none is taken once the container was
// deleted, because its bundle is then somebody else's to remove.
func (c *Container) Note(text string) error {
	text = strings.ToValidUTF8(text[:min(len(text), maxNote)], "")
	c.recordGate <- struct{}{}
	defer c.recordGate.leave()
	if c.rec.Clean {
		return fmt.Errorf("container %q was deleted: %w", c.req.ID, errdefs.ErrNotFound)
	}
	if len(c.rec.Notes) >= maxNotes {
		return nil
	}
	c.rec.Notes = append(c.rec.Notes, text)
	return c.rec.write(c.req.Bundle)
}

// warn logs what went wrong where there is nobody to return it to.
func (c *Container) warn(err error, what string) {
	if err != nil {
		log.L.WithField("container", c.req.ID).WithError(err).Warn(what)
	}
}

// bounded is a context of the shim's own for work that must be finished, or
// undone, whatever becomes of the request that began it.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), d,
		fmt.Errorf("gave up after %v: %w", d, context.DeadlineExceeded))
}

// ignoreNotFound is for undoing what may be gone already.
func ignoreNotFound(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}
