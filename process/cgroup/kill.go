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

// killTimeout bounds a Kill whose context has no deadline: a process in
// uninterruptible sleep may never die.
const killTimeout = 30 * time.Second

// killBatch is how many processes are held by a pidfd at once.
const killBatch = 256

// Kill ends all processes in the cgroup and below it with SIGKILL and returns
// when none is left alive; a zombie that its parent has not reaped counts as
// dead. A frozen cgroup is thawed, on v1 because frozen processes do not die.
//
// On v2 and hybrid hosts cgroup.kill does it in one write that also catches
// concurrent forks (cgroup-v2.rst). Otherwise the cgroup is frozen, so that a
// fork bomb cannot outrun the loop, each process gets its signal through a
// pidfd, and the cgroup is thawed; round after round until nothing is left.
//
// Errors: errdefs.ErrFailedPrecondition, with nothing killed, where the cgroup
// is not the container's own; when ctx ends first, its cause in a sentence that
// lists what is left and where in the kernel it hangs. A context without a
// deadline gets one of 30 s. Every process has had its signal at least once,
// even if ctx had ended before the call.
func (c *Cgroup) Kill(ctx context.Context) error {
	if !c.acquire() {
		return errClosed("kill cgroup")
	}
	defer c.release()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, killTimeout)
		defer cancel()
	}
	members, err := c.members()
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	if _, err := c.pids(members); errdefs.IsResourceExhausted(err) {
		// A hostile container nests its cgroups deeper than they can be
		// listed. What the kernel kills by itself does not depend on that.
		c.killUnified(members)
		_ = c.thaw(members)
	}
	for {
		if err := c.killRound(members); err != nil {
			return err
		}
		left, err := c.pids(members)
		if err != nil {
			return fmt.Errorf("kill cgroup: %w", err)
		}
		again, err := c.waitDead(ctx, members, left)
		if err != nil || !again {
			return err
		}
		if ctx.Err() != nil {
			return c.remain(ctx, members)
		}
	}
}

// killRound sends SIGKILL to all that is there now.
func (c *Cgroup) killRound(members []string) (retErr error) {
	left, err := c.pids(members)
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	if slices.Contains(left, os.Getpid()) || slices.Contains(left, 1) {
		return fmt.Errorf("kill cgroup: it holds the shim or the host's init: %w", errdefs.ErrFailedPrecondition)
	}
	if len(left) == 0 {
		return nil
	}
	defer func() { retErr = errors.Join(retErr, c.thaw(members)) }()
	rest := members // hierarchies to go through process by process
	if c.killUnified(members) {
		rest = slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == Unified })
		if len(rest) == 0 {
			return nil
		}
	}
	c.freeze(rest)
	left, err = c.pids(rest)
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	for batch := range slices.Chunk(left, killBatch) {
		if err := c.killBatch(rest, batch); err != nil {
			return err
		}
	}
	return nil
}

// killUnified writes cgroup.kill; false where there is none (Linux before 5.14,
// a threaded cgroup, no unified hierarchy of the container's own).
func (c *Cgroup) killUnified(members []string) bool {
	if !slices.Contains(members, Unified) {
		return false
	}
	err := writeIn(c.dirs[Unified], "cgroup.kill", "1")
	return err == nil
}

// killBatch signals a part of the processes.
func (c *Cgroup) killBatch(members []string, batch []int) error {
	held, _, err := openPidfds(batch)
	defer closePidfds(held)
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return c.signal(members, held)
}

// signal sends SIGKILL through pidfds. Between the listing and the pidfd_open a
// pid may have come to name a process outside, so the cgroup is listed again: a
// pid that is still there, or there again, either is the process that the pidfd
// holds, or that process is dead and the signal fails.
func (c *Cgroup) signal(members []string, held []pidfd) error {
	now, err := c.pids(members)
	if err != nil {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	for i := range held {
		p := &held[i]
		if _, p.member = slices.BinarySearch(now, p.pid); !p.member {
			continue
		}
		if err := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d: %w", p.pid, err)
		}
	}
	return nil
}
