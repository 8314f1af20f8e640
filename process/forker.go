// SPDX-License-Identifier: Apache-2.0

package process

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// forker starts programs from one thread that lives as long as the supervisor.
//
// The signal of PR_SET_PDEATHSIG is sent when the thread that forked ends, not
// the process (prctl(2)), and Go ends a thread whenever a goroutine returns
// that is still locked to it, as the code that mounts an overlay with a long
// option string does. A runtime started from such a thread would be killed in
// the middle of its work.
type forker struct {
	start   sync.Once
	calls   chan func()
	stop    chan struct{}
	stopped sync.WaitGroup
}

func newForker() forker { return forker{calls: make(chan func()), stop: make(chan struct{})} }

// do runs fork on the forking thread and waits for it; false after close.
func (f *forker) do(fork func()) bool {
	f.start.Do(func() {
		f.stopped.Add(1)
		go f.run()
	})
	done := make(chan struct{})
	call := func() {
		defer close(done)
		fork()
	}
	select {
	case f.calls <- call:
		<-done
		return true
	case <-f.stop:
		return false
	}
}

// run gets a thread that can end. The process's first one cannot: Go only parks
// it, and what it had forked would live on.
func (f *forker) run() {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f.serve()
		return
	}
	moved := make(chan struct{})
	go func() { // on another thread, as long as this one is taken
		runtime.LockOSThread()
		close(moved)
		f.serve()
	}()
	<-moved
	runtime.UnlockOSThread()
}

// serve is called on a locked thread, which is never unlocked: it ends with the
// goroutine.
func (f *forker) serve() {
	defer f.stopped.Done()
	for {
		select {
		case call := <-f.calls:
			call()
		case <-f.stop:
			return
		}
	}
}

func (f *forker) close() {
	close(f.stop)
	f.stopped.Wait()
}
