// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"
)

// killTimeout bounds the wait for a call whose children were killed. Only one
// in an uninterruptible sleep takes longer.
const killTimeout = 2 * time.Second

// call is one call of the library, on a thread of its own.
type call struct {
	dir  string // working directory
	f    func(*call) error
	tid  chan int      // the thread, before the library is called
	done chan struct{} // closed when the library has returned
	err  error         // written before done is closed

	mu        sync.Mutex
	committed bool // what it made is somebody's
	abandoned bool // nobody waits for it any more
}

// commit tells whether what the call has made is wanted. If not it has to be
// undone. After it the call does nothing that can take long or fail.
func (c *call) commit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committed = !c.abandoned
	return c.committed
}

// abandon is false if the call has made what was asked after all.
func (c *call) abandon() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned = !c.committed
	return c.abandoned
}

// do calls f on a thread of its own. While it runs, the children of this
// program that the library waits for are spared.
func (d *Driver) do(ctx context.Context, verb, dir string, f func(*call) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("OCI runtime %s was not begun: %w", verb, err)
	}
	began := time.Now()
	c := &call{dir: dir, f: f, tid: make(chan int, 1), done: make(chan struct{})}
	spare := d.Supervisor.Spare()
	go func() {
		defer spare.Release()
		c.run()
	}()
	select {
	case <-c.done:
		return runtimeError(verb, c.err)
	case <-ctx.Done():
	}
	if !c.abandon() { // it has made what was asked for, and says so at once
		<-c.done
		return runtimeError(verb, c.err)
	}
	err := fmt.Errorf("OCI runtime %s was killed after %v: %w",
		verb, time.Since(began).Round(time.Millisecond), context.Cause(ctx))
	if !c.kill() {
		return fmt.Errorf("%w; it does not end even so", err)
	}
	if c.err == nil { // it makes nothing, and had done its work before
		return nil
	}
	return err
}

// run makes the call on a thread that is never used again. A panic of the
// library is an error.
func (c *call) run() {
	runtime.LockOSThread()
	defer close(c.done)
	beginCall()
	defer endCall()
	defer func() {
		if p := recover(); p != nil {
			log.L.Errorf("a call of the container library panics: %v\n%s", p, debug.Stack())
			c.err = fmt.Errorf("the container library panics: %v", p)
			killChildren(unix.Gettid()) // nobody knows them any more
		}
	}()
	growStack()
	hearIgnored()
	c.tid <- unix.Gettid()
	if c.err = c.enter(); c.err == nil {
		c.err = c.f(c)
	}
}

// growStack has the stack of a new goroutine grow at once to what the library's
// calls need, and not by doubling, which copies it each time. It shrinks
// with the next collection of garbage in which it is not in use.
//
//go:noinline
func growStack() byte {
	var room [20 << 10]byte
	return room[len(os.Args)%len(room)]
}

// enter gives the thread a working directory of its own (unshare(2), CLONE_FS),
// from which the library tells the bundle.
func (c *call) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the working directory: %w", err)
	}
	if c.dir == "" {
		c.dir = "/"
	}
	if err := unix.Chdir(c.dir); err != nil {
		return &os.PathError{Op: "chdir", Path: c.dir, Err: err}
	}
	return nil
}

// kill kills what an abandoned call has forked, until it ends. It returns false
// for one that does not.
func (c *call) kill() bool {
	timeout := time.NewTimer(killTimeout)
	defer timeout.Stop()
	select {
	case tid := <-c.tid:
		// Killed again and again: the library may just be about to fork.
		for again := time.NewTicker(killTimeout / 100); ; {
			killChildren(tid)
			select {
			case <-c.done:
				again.Stop()
				return true
			case <-again.C:
			case <-timeout.C:
				again.Stop()
				return false
			}
		}
	case <-timeout.C: // no thread could be had
		return false
	}
}
