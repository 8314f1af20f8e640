// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

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
// process's end then, so the container is killed, and the process declared to be.
// p is nil for a goroutine that tells of no end.
func (c *Container) afterPanic(p *proc) {
	v := recover()
	if v == nil {
		return
	}
	log.L.WithField("container", c.req.ID).Errorf("panic, and the container is killed: %v\n%s", v, debug.Stack())
	if cg := c.cgroup.Load(); cg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), c.pod.grace.kill)
		defer cancel()
		c.warn(cg.Kill(ctx), "processes of the container are left")
	}
	if p == nil {
		return
	}
	exit := process.Exit{Status: killed, At: time.Now()}
	if p == &c.init {
		c.warn(c.updateRecord(func(r *record) { r.Exit = newExitRecord(exit) }), "the exit is not on record")
	}
	c.queueExit(p, exit)
}
