// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

const (
	// startGrace is how long an init's exit waits for starts that are under
	// way, a hook after the start included, before the runtime is killed.
	startGrace = 10 * time.Second
	// killGrace is how long what is left in the cgroup, and then the execs,
	// may take to die of SIGKILL. What takes longer hangs in the kernel.
	killGrace = 10 * time.Second
	// leftWarning is of a cgroup that was not emptied: because of the kernel, or because it
	// is not the container's alone, as without a cgroupsPath.
	leftWarning = "what the container has left cannot be killed, but for what ends with its PID namespace"
	// killed is the status of a process that died of SIGKILL.
	killed = 128 + int(unix.SIGKILL)
)

// graces are startGrace and killGrace; tests of what happens when they are
// over make them short.
type graces struct{ start, kill time.Duration }

// superviseInit follows the init to its end. It is this container's alone and
// calls neither the runtime nor containerd.
func (c *Container) superviseInit() {
	defer c.pod.work.Done()
	defer c.afterPanic(&c.init)
	select {
	case <-c.init.os.Done():
	case <-c.pod.life.Done():
		return
	}
	exit := c.init.os.Exit()
	c.waitStarts()
	c.killRest()
	c.settleExecs()
	c.warn(c.updateRecord(func(r *record) { r.Exit = newExitRecord(exit) }), "the exit is not on record")
	c.queueExit(&c.init, exit)
}

// waitStarts forbids new starts and waits for those under way. Since their
// init is dead they end soon; a runtime that hangs all the same is killed.
func (c *Container) waitStarts() {
	c.mu.Lock()
	c.ending = true
	if c.inflight == 0 {
		c.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	c.idle = idle
	c.mu.Unlock()
	for range 2 { // once patiently, once after killing the runtime
		timer := time.NewTimer(c.pod.grace.start)
		select {
		case <-idle:
			timer.Stop()
			return
		case <-timer.C:
			c.cutStarts()
		}
	}
	c.warn(errors.New("the runtime did not die of SIGKILL"), "a start is given up")
}

// beginStartLocked counts a start that the init's exit must wait for. c.mu is
// held.
func (c *Container) beginStartLocked() { c.inflight++ }

func (c *Container) endStart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inflight--
	if c.inflight == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// killRest kills what outlived the init: with a shared PID namespace the
// kernel does not.
func (c *Container) killRest() {
	cg := c.cgroup.Load()
	if cg == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.pod.grace.kill)
	defer cancel()
	c.warn(cg.Kill(ctx), leftWarning)
	cg.Snapshot()
}

// settleExecs sees to it that every exec's exit is queued before the init's.
// One that does not die of SIGKILL is declared killed.
func (c *Container) settleExecs() {
	c.mu.Lock()
	var live []*Exec
	for _, e := range c.execs {
		if e.os != nil && e.state != Stopped {
			live = append(live, e)
		}
	}
	c.mu.Unlock()
	if len(live) == 0 {
		return
	}
	for _, e := range live {
		c.warn(ignoreNotFound(e.os.Signal(unix.SIGKILL)), "an exec was not killed")
	}
	timeout := time.After(c.pod.grace.kill)
	for _, e := range live {
		select {
		case <-e.exited:
			continue
		case <-timeout:
		}
		break
	}
	for _, e := range live { // those that have exited are left as they are
		c.queueExit(&e.proc, process.Exit{Status: killed, At: time.Now()})
	}
}

// watchExec follows an exec to its end.
func (c *Container) watchExec(e *Exec) {
	defer c.pod.work.Done()
	defer c.afterPanic(&e.proc)
	select {
	case <-e.os.Done():
		c.queueExit(&e.proc, e.os.Exit())
	case <-c.pod.life.Done():
	}
}

// queueExit makes an exit final, unless there is one already, and tells of it.
func (c *Container) queueExit(p *proc, exit process.Exit) {
	c.tellExit(p, exit, c.oomKills(exit))
}

// tellExit is queueExit of one that so many OOM kills may explain.
func (c *Container) tellExit(p *proc, exit process.Exit, kills uint64) {
	c.mu.Lock()
	to, err := p.state.next(verbExit)
	if err != nil {
		c.mu.Unlock()
		return
	}
	c.noteOOMLocked(kills)
	p.state, p.exit = to, exit
	c.queueLocked(Event{Kind: TaskExit, Exec: p.id, Pid: p.pid(), Exit: exit})
	c.mu.Unlock()
	defer close(p.exited) // whatever becomes of the event
	c.flush()
}

// oomKills asks the kernel for the container's OOM kills where they may
// explain an exit: the victim dies of SIGKILL, and its parent may then fail.
func (c *Container) oomKills(exit process.Exit) uint64 {
	cg := c.cgroup.Load()
	if cg == nil || exit.Status == 0 {
		return 0
	}
	kills, err := cg.OOMKills()
	c.warn(err, "OOM kills are not known")
	return kills
}

// noteOOM is told of the container's OOM kills as they happen.
func (c *Container) noteOOM(kills uint64) {
	c.mu.Lock()
	if c.init.state != Stopped { // nothing follows an init's exit
		c.noteOOMLocked(kills)
	}
	c.mu.Unlock()
	c.flush()
}

// noteOOMLocked tells of OOM kills once. c.mu is held.
func (c *Container) noteOOMLocked(kills uint64) {
	if kills > c.oomSeen {
		c.oomSeen = kills
		c.queueLocked(Event{Kind: TaskOOM})
	}
}
