// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// netns is an operating system thread in a network namespace of its own, with the
// loopback interface up. Processes started by it begin in that namespace, and their
// parent-death signal follows this thread.
type netns struct {
	work chan func()
	done chan struct{} // closed when the thread takes no more work
}

// newNetns starts the thread. The caller closes it.
func newNetns() (*netns, error) {
	n := &netns{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error, 1)
	go n.run(ready)
	if err := <-ready; err != nil {
		<-n.done
		return nil, err
	}
	return n, nil
}

func (n *netns) run(ready chan<- error) {
	defer close(n.done)
	// Never unlocked: the thread must not serve other goroutines, so it ends with this one.
	runtime.LockOSThread()
	if err := isolate(); err != nil {
		ready <- err
		return
	}
	ready <- nil
	for f := range n.work {
		f()
	}
}

// do runs f on the thread and waits for it.
func (n *netns) do(f func() error) error {
	result := make(chan error, 1)
	n.work <- func() { result <- f() }
	return <-result
}

func (n *netns) close() {
	close(n.work)
	<-n.done
}

// isolate moves the calling thread to a new network namespace.
func isolate() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare network namespace: %w", err)
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer func() { _ = unix.Close(s) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("name loopback: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}
