// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// waitDead waits for the processes of left, or a first part of them, to die. It
// reports whether there is reason for another round.
func (c *Cgroup) waitDead(ctx context.Context, members []string, left []int) (again bool, err error) {
	held, short, err := openPidfds(left[:min(len(left), killBatch)])
	defer closePidfds(held)
	if err != nil {
		return false, fmt.Errorf("kill cgroup: %w", err)
	}
	// Again: what was forked since the round has had no signal, and is not
	// worth waiting for before it has.
	if err := c.signal(members, held); err != nil {
		return false, err
	}
	alive := short || len(left) > killBatch
	for i := range held {
		if !held[i].member {
			continue // dead, or never ours
		}
		dead, err := held[i].wait(ctx)
		if err != nil {
			return false, fmt.Errorf("wait for process %d: %w", held[i].pid, err)
		}
		if !dead {
			return false, c.remain(ctx, members)
		}
		alive = alive || held[i].waited
	}
	if alive {
		return true, nil
	}
	// What is listed now is dead, or of another PID namespace (pid 0).
	if slices.Contains(members, Unified) {
		return false, c.waitUnpopulated(ctx, members)
	}
	if slices.Contains(left, 0) {
		return false, fmt.Errorf("kill cgroup: it holds processes outside the shim's PID namespace: %w", errdefs.ErrFailedPrecondition)
	}
	return false, nil
}

// waitUnpopulated waits until the unified hierarchy has no live process in or
// below the cgroup: the kernel tells by a change of cgroup.events
// (cgroup-v2.rst, "[Un]populated Notification").
func (c *Cgroup) waitUnpopulated(ctx context.Context, members []string) error {
	populated, err := c.populated()
	if err != nil || !populated {
		return err
	}
	events, err := c.watchFiles("cgroup.events")
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	defer events.Close()
	stop := bound(ctx, events)
	defer stop()
	buf := make([]byte, 512)
	for {
		populated, err := c.populated()
		if err != nil || !populated {
			return err
		}
		if _, err := events.Read(buf); errors.Is(err, os.ErrDeadlineExceeded) {
			return c.remain(ctx, members)
		} else if err != nil {
			return fmt.Errorf("kill cgroup: wait until it is empty: %w", err)
		}
	}
}

func (c *Cgroup) populated() (bool, error) {
	text, err := readIn(c.dirs[Unified], "cgroup.events")
	if isGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read cgroup.events: %w", err)
	}
	v, _ := lookup(text, "populated")
	return v != 0, nil
}

// bound makes reads of f end with os.ErrDeadlineExceeded when ctx does.
func bound(ctx context.Context, f *os.File) (stop func() bool) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = f.SetReadDeadline(deadline)
	}
	return context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
}

// pidfd holds one process; fd is owned by file once that is set.
type pidfd struct {
	pid    int
	fd     int
	file   *os.File
	member bool // the last signal found it in the cgroup
	waited bool // it was alive when the wait began
}

// openPidfds opens what still exists of pids. When descriptors run out it stops
// short: the next round takes the others. Close what it returned in any case.
func openPidfds(pids []int) (held []pidfd, short bool, err error) {
	for _, pid := range pids {
		if pid == 0 {
			continue // of another PID namespace
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		switch {
		case err == nil:
			held = append(held, pidfd{pid: pid, fd: fd})
		case errors.Is(err, unix.ESRCH):
		case len(held) > 0:
			return held, true, nil
		default:
			return nil, false, fmt.Errorf("open process %d: %w", pid, err)
		}
	}
	return held, false, nil
}

func closePidfds(held []pidfd) {
	for _, p := range held {
		if p.file != nil {
			p.file.Close()
		} else {
			unix.Close(p.fd)
		}
	}
}

// wait parks in the runtime's poller until the process is dead (pidfd_open(2):
// the descriptor becomes readable); dead is false when ctx ended first.
func (p *pidfd) wait(ctx context.Context) (dead bool, err error) {
	if exited(p.fd) {
		return true, nil
	}
	p.waited = true
	p.file = os.NewFile(uintptr(p.fd), "pidfd")
	stop := bound(ctx, p.file)
	defer stop()
	conn, err := p.file.SyscallConn()
	if err != nil {
		return false, err
	}
	err = conn.Read(func(fd uintptr) bool { return exited(int(fd)) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	return err == nil, err
}

// exited asks without waiting.
func exited(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}
