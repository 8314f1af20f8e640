// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// removeFirst is the first delay before an rmdir that gave EBUSY is tried
// again; it doubles. A process that has exited leaves its cgroup a little later
// than its pidfd becomes readable, and v1 has no notification of that moment.
const removeFirst = time.Millisecond

// removeTimeout bounds a Remove whose context has no deadline.
const removeTimeout = 5 * time.Second

// Remove deletes the cgroup and all below it, in each hierarchy where it is the
// container's own; directories that it shares with others, and ones that others
// have made since under its names, stay. Processes must be dead (Kill). What is
// already gone is no error; a directory that stays busy until ctx ends (or 5 s,
// without a deadline) is errdefs.ErrFailedPrecondition.
func (c *Cgroup) Remove(ctx context.Context) error {
	if !c.acquire() {
		return errClosed("remove cgroup")
	}
	defer c.release()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, removeTimeout)
		defer cancel()
	}
	self, err := c.view.locate("self", c.mounts)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove cgroup: %w", err)
	}
	c.Snapshot()
	var errs []error
	for controller, dir := range c.loc.Dirs {
		if !c.own(controller, self) {
			continue
		}
		if err := c.removeDir(ctx, c.dirs[controller], dir); err != nil {
			errs = append(errs, fmt.Errorf("remove %q: %w", dir.Path, err))
		}
	}
	return errors.Join(errs...)
}

// removeDir tries until the directory is gone or ctx ends.
func (c *Cgroup) removeDir(ctx context.Context, fd int, dir Dir) error {
	for delay := removeFirst; ; delay *= 2 {
		err := c.tryRemove(fd, dir)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			pids, _ := appendProcs(nil, fd)
			return fmt.Errorf("still busy, processes %v: %w: %w", pids, errdefs.ErrFailedPrecondition, ctx.Err())
		case <-timer.C:
		}
	}
}

func (c *Cgroup) tryRemove(fd int, dir Dir) error {
	if err := removeChildren(fd, maxDepth); err != nil {
		return err
	}
	parent, err := unix.Open(filepath.Join(c.view.root, filepath.Dir(dir.Path)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	var st unix.Stat_t
	err = unix.Fstatat(parent, filepath.Base(dir.Path), &st, unix.AT_SYMLINK_NOFOLLOW)
	if isGone(err) || err == nil && st.Ino != dir.Inode {
		return nil
	}
	if err != nil {
		return err
	}
	return ignoreGone(unix.Unlinkat(parent, filepath.Base(dir.Path), unix.AT_REMOVEDIR))
}

// removeChildren removes what is below dir, deepest first.
func removeChildren(dir, depth int) error {
	names, err := subdirs(dir)
	if err != nil {
		return err
	}
	if len(names) > 0 && depth == 0 {
		return fmt.Errorf("cgroups are nested more than %d deep: %w", maxDepth, errdefs.ErrResourceExhausted)
	}
	slices.Sort(names)
	for _, name := range names {
		child, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if isGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		err = removeChildren(child, depth-1)
		unix.Close(child)
		if err == nil {
			err = ignoreGone(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}
