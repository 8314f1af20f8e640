// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"berth/process"
)

// errorOfPanic makes an error of a panic, in a defer, so that the construction
// that met it is undone.
func errorOfPanic(err *error) {
	if p := recover(); p != nil {
		log.L.Errorf("panic: %v\n%s", p, debug.Stack())
		*err = fmt.Errorf("a bug of the shim, whose log has the stack: %v: %w", p, errdefs.ErrInternal)
	}
}

// afterPanic, in the defer of a goroutine that follows a process of the container,
// keeps a panic from the containers beside it. Nobody would ever tell of the
// process's end then, so the container is killed, and the process declared to be,
// unless it has ended by itself. What was called when it happened may panic again.
func (c *Container) afterPanic(p *proc) {
	v := recover()
	if v == nil {
		return
	}
	log.L.WithField("container", c.req.ID).Errorf("panic, and the container is killed: %v\n%s", v, debug.Stack())
	c.despite(c.killByCgroup)
	c.despite(c.killByName)
	exit := process.Exit{Status: killed, At: time.Now()}
	select {
	case <-p.os.Done():
		exit = p.os.Exit()
	default:
	}
	if p == &c.init {
		c.despite(c.settleExecs)
		c.despite(func() {
			c.warn(c.updateRecord(func(r *record) { r.Exit = newExitRecord(exit) }), "the exit is not on record")
		})
	}
	c.despite(func() { c.tellExit(p, exit, 0) })
}

// despite calls f, and has the caller go on if that panics.
func (c *Container) despite(f func()) {
	defer func() {
		if v := recover(); v != nil {
			log.L.WithField("container", c.req.ID).Errorf("panic, and all else goes on: %v\n%s", v, debug.Stack())
		}
	}()
	f()
}

func (c *Container) killByCgroup() {
	if cg := c.cgroup.Load(); cg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), c.pod.grace.kill)
		defer cancel()
		c.warn(cg.Kill(ctx), leftWarning)
	}
}

// killByName kills the init, also where no cgroup is the container's own.
func (c *Container) killByName() {
	c.warn(ignoreNotFound(c.init.os.Signal(unix.SIGKILL)), "the init was not killed")
}
