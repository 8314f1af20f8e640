// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Exit is how and when a process ended.
type Exit struct {
	// Status is the exit code, or 128 plus the number of the signal that
	// ended the process, as a shell reports it.
	Status int
	// At is when the exit was noticed.
	At time.Time
	// Known is false where the status could not be had, because the process
	// was not a child of this one or was reaped by another. Status is then 255.
	Known bool
}

// unknownStatus is what containerd itself reports for an exit that it could
// not learn (core/runtime/v2/shim.go, cleanupAfterDeadShim).
const unknownStatus = 255

// Process is one process, from its start or adoption to its exit.
type Process struct {
	pid  int
	fd   *os.File                // pidfd, non-blocking; owned and closed by watch
	send func(unix.Signal) error // instead of fd, for a process elsewhere
	done chan struct{}
	exit Exit // written once, before done is closed
}

// Elsewhere is a process that this kernel does not know, such as one in a
// guest. pid is what stands for it here, and send takes signals to it, which
// must not wait for ever. Its exit is what the first call of end says.
func Elsewhere(pid int, send func(unix.Signal) error) (p *Process, end func(Exit)) {
	p = &Process{pid: pid, send: send, done: make(chan struct{})}
	var once sync.Once
	return p, func(exit Exit) {
		once.Do(func() {
			p.exit = exit
			close(p.done)
		})
	}
}

// Pid is the process's number in this PID namespace. After Done is closed it
// may belong to another process: signal through Signal only.
func (p *Process) Pid() int { return p.pid }

// Done is closed once the process has exited and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the process ended; it is the zero value until Done is closed.
func (p *Process) Exit() Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return Exit{}
	}
}

// Signal sends sig through the pidfd, so that it can only ever reach this
// process. Once the process has exited the error is errdefs.ErrNotFound.
func (p *Process) Signal(sig unix.Signal) error {
	gone := fmt.Errorf("process %d has already exited: %w", p.pid, errdefs.ErrNotFound)
	if p.send != nil {
		select {
		case <-p.done:
			return gone
		default:
			return p.send(sig)
		}
	}
	if p.fd == nil {
		return gone
	}
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return gone
	}
	var sigErr error
	if err := conn.Control(func(fd uintptr) {
		sigErr = unix.PidfdSendSignal(int(fd), sig, nil, 0)
	}); err != nil || errors.Is(sigErr, unix.ESRCH) {
		return gone
	}
	if sigErr != nil {
		return fmt.Errorf("send signal %d to process %d: %w", sig, p.pid, sigErr)
	}
	return nil
}

// watch blocks until the process has exited and reaps it. It returns false if
// the pidfd was closed first.
func (p *Process) watch() bool {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return false
	}
	err = conn.Read(func(fd uintptr) bool {
		exit, ok := reapPidfd(int(fd))
		if ok {
			p.exit = exit
		}
		return ok
	})
	return err == nil
}

// reapPidfd takes the exit of the process behind a pidfd, if there is one yet.
func reapPidfd(fd int) (Exit, bool) {
	info, err := waitid(unix.P_PIDFD, fd, unix.WEXITED|unix.WNOHANG)
	switch {
	case err == nil && info.pid == 0, errors.Is(err, unix.EAGAIN):
		return Exit{}, false
	case err == nil:
		return Exit{Status: info.shellStatus(), At: time.Now(), Known: true}, true
	}
	// Not our child (ECHILD): the pidfd still tells when it is over.
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 0); err == nil && n == 0 {
		return Exit{}, false
	}
	return Exit{Status: unknownStatus, At: time.Now()}, true
}

// newPidfdFile wraps a pidfd for the runtime's poller. It takes fd over.
func newPidfdFile(fd int) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("make pidfd non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}
