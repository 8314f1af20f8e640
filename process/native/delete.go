// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/log"
	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"
)

const (
	// undoTimeout bounds the undoing of a half-done call, which runs on a
	// context of its own. containerd gives a shim's clean-up 5 s.
	undoTimeout = 5 * time.Second
	// dieTimeout is how long the command line waits for a killed init.
	dieTimeout = 10 * time.Second
)

// Delete removes what runc keeps of a container that has exited or was never
// started, or with force of one in any state, whose processes are killed.
func (d *Driver) Delete(ctx context.Context, id string, force bool) error {
	return d.do(ctx, "delete", d.Dir, func(*call) error {
		c, err := d.load(id)
		if isTorn(err) {
			// Nobody can do anything with it any more, nor say so to whoever asks again.
			log.L.WithError(err).WithField("container", id).Warn("runc's state of the container makes no sense, and is removed")
			err = fmt.Errorf("%w: its state makes no sense: %w", libcontainer.ErrNotExist, err)
		}
		if errors.Is(err, libcontainer.ErrNotExist) {
			// A create that was cut off leaves a directory without a state.
			if rerr := os.RemoveAll(filepath.Join(d.Root, id)); rerr != nil {
				return errors.Join(err, rerr)
			}
			if force {
				return nil
			}
		}
		if err != nil {
			return err
		}
		if force { // also a stopped one: its cgroup may hold others
			return killAndDestroy(ctx, c)
		}
		status, err := c.Status()
		switch {
		case err != nil:
			return err
		case status == libcontainer.Stopped:
			return c.Destroy()
		case status == libcontainer.Created:
			return killAndDestroy(ctx, c)
		}
		return fmt.Errorf("%w %s that is not stopped: %s", errNotDeleted, id, status)
	})
}

// isTorn tells that a state was read and is none: cut off, as after a crash of the host,
// or written over. The command line refuses to delete such a container for good.
func isTorn(err error) bool {
	var syntax *json.SyntaxError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &syntax)
}

// killAndDestroy kills the init, and without a pid namespace of their own all
// processes, and waits for the end of the init.
func killAndDestroy(ctx context.Context, c *libcontainer.Container) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	// Opened first: if the number is another's by now, there is no init.
	fd, err := unix.PidfdOpen(s.InitProcessPid, 0)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
	}
	_ = c.Signal(unix.SIGKILL)
	if fd >= 0 && c.Signal(unix.Signal(0)) == nil {
		if err := waitGone(ctx, fd); err != nil {
			return err
		}
	}
	return c.Destroy()
}

// waitGone waits for the end of a process (pidfd_open(2)).
func waitGone(ctx context.Context, pidfd int) error {
	limit := dieTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(0, min(limit, time.Until(deadline)))
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for the init: %w", err)
		case n == 0:
			return errStillRuns
		}
		return nil
	}
}
