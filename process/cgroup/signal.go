// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Signal sends a signal to every process that is in the cgroup now. A pid may
// have been given to a stranger since it was listed, so the list is read again
// once the pidfds are open: who is in it then is the container's. The errors of
// Pids are its errors.
func (c *Cgroup) Signal(_ context.Context, sig unix.Signal) error {
	listed, err := c.Pids()
	if err != nil {
		return err
	}
	fds := make(map[int]int, len(listed))
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range listed {
		if pid == 0 {
			continue // of another PID namespace
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			fds[pid] = fd
		}
	}
	if listed, err = c.Pids(); err != nil {
		return err
	}
	var errs []error
	for pid, fd := range fds {
		if _, in := slices.BinarySearch(listed, pid); !in {
			continue
		}
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("send signal %d to process %d: %w", sig, pid, err))
		}
	}
	return errors.Join(errs...)
}
