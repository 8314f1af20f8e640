// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/process/cgroup"
)

// CleanupRequest asks for the removal of a container whose shim is gone.
type CleanupRequest struct {
	ID     string
	Bundle string
	// Runtime gives the runtime for the options that the container had.
	Runtime func(o configs.Runtime, bundle string) (Runtime, error)
	Hooks   hooks.Chain
	// RunDir is the Config's of the pod that the container was in.
	RunDir string
}

// Cleanup kills and removes whatever is left of a container that another
// process made, and returns how its init ended: as recorded, or as killed now.
// It may be called at any time, again, and from several processes at once. A
// container that its shim deleted properly costs one read. One whose record
// makes no sense is cleaned up all the same, and its exit is then unknown.
func Cleanup(ctx context.Context, r CleanupRequest) (Deleted, error) {
	unlock, err := lockBundle(ctx, r.Bundle)
	if errors.Is(err, fs.ErrNotExist) { // no bundle: nothing was ever made, or all of it has gone
		return Deleted{Exit: killedNow()}, nil
	}
	if err != nil {
		return Deleted{}, err
	}
	defer unlock()
	rec, err := readRecord(r.Bundle)
	if errors.Is(err, fs.ErrNotExist) { // the shim died before the runtime was asked, perhaps in a hook
		removeEmpty(specCgroup(r, configs.Runtime{})) // it is claimed while the record is written
		return Deleted{Exit: killedNow()}, errors.Join(unmountRootfs(r.Bundle), r.Hooks.Delete(ctx, r.ID))
	}
	if err != nil {
		log.L.WithError(err).WithField("container", r.ID).
			Warn("the container's record makes no sense; its exit is unknown, and it is cleaned up by what else is known")
		rec = presume(r)
	}
	left := !rec.Clean
	if left {
		if err := rec.cleanUp(ctx, r); err != nil {
			return Deleted{}, err
		}
	}
	return Deleted{Pid: rec.Pid, Exit: rec.Exit.exit(), Left: left}, nil
}

// cleanUp does the work and puts it on record. Every step may be done again.
// Once all processes are dead, no step waits for the success of another.
func (rec *record) cleanUp(ctx context.Context, r CleanupRequest) error {
	if err := rec.killAll(ctx); err != nil {
		return err
	}
	process.RemoveConsoleSockets(r.RunDir, rec.Shim)
	// The cgroup first: the runtime's program may use up the time on a busy machine.
	err := errors.Join(
		rec.removeCgroup(ctx, r), rec.forget(ctx, r), rec.unmount(r), r.Hooks.Delete(ctx, rec.ID))
	if err != nil {
		return err
	}
	if rec.Exit == nil {
		rec.Exit = newExitRecord(killedNow())
	}
	rec.Clean = true
	if err := rec.write(r.Bundle); err != nil {
		// It costs whoever comes next the same work; nothing is left by now, and
		// the exit is better told than kept from containerd.
		log.L.WithError(err).WithField("container", r.ID).Warn("the clean-up is not on record")
	}
	return nil
}

// forget has the runtime forget the container.
func (rec *record) forget(ctx context.Context, r CleanupRequest) error {
	rt, err := r.Runtime(rec.Runtime, r.Bundle)
	if err != nil {
		return err
	}
	return ignoreNotFound(rt.Delete(ctx, rec.ID, true))
}

// unmount undoes the mount of the root file system, where that was made.
func (rec *record) unmount(r CleanupRequest) error {
	rt, err := r.Runtime(rec.Runtime, r.Bundle)
	if err != nil { // which forget has told: what is mounted here goes all the same
		return unmountRootfs(r.Bundle)
	}
	return kernelOf(rt, nil).Unmount(r.Bundle)
}

// removeCgroup removes the cgroup, which is empty by now; the runtime finds none
// to remove then.
func (rec *record) removeCgroup(ctx context.Context, r CleanupRequest) error {
	if rec.Cgroup == nil { // killAll has removed what was claimed
		if rec.Claimed == nil {
			removeEmpty(specCgroup(r, rec.Runtime)) // it was, and the shim died before it said so
		}
		return nil
	}
	cg, err := cgroup.Load(*rec.Cgroup)
	if err != nil {
		return nil // removed already
	}
	if err := errors.Join(cg.Remove(ctx), cg.Close()); err != nil {
		return fmt.Errorf("remove the cgroup: %w", err)
	}
	return nil
}

// removeEmpty removes a cgroup that holds nothing. One that does stays (rmdir(2),
// cgroups(7)).
func removeEmpty(loc *cgroup.Location) {
	if loc == nil {
		return
	}
	for _, dir := range loc.Dirs {
		_ = unix.Rmdir(dir.Path)
	}
}

// killAll kills the init, if it is still the one that was recorded, and all
// that its cgroup holds.
func (rec *record) killAll(ctx context.Context) error {
	if err := killShimGroup(rec.Shim); err != nil {
		return err
	}
	if rec.Pid > 0 {
		if err := killProcess(ctx, rec.Pid, rec.StartTime); err != nil {
			return err
		}
	}
	if rec.Cgroup == nil { // the shim died during create
		return removeCgroup(ctx, rec.Claimed)
	}
	cg, err := cgroup.Load(*rec.Cgroup)
	if err != nil {
		return nil // removed already
	}
	err = cg.Kill(ctx)
	if errdefs.IsFailedPrecondition(err) {
		// It has no cgroup of its own, or, an earlier cleanup having removed
		// it, no more than the hierarchies that it shared: what can be killed
		// by name is dead, the rest is the runtime's.
		err = nil
	}
	return errors.Join(err, cg.Close())
}

// killProcess kills a process of another parent. The pidfd is opened before
// the start time is compared, so that no other process
// can be hit.
func killProcess(ctx context.Context, pid int, started uint64) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pidfd of process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if now, err := process.StartTime(pid); err != nil || now != started {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// lockBundle keeps cleanups of one container from running into each other.
func lockBundle(ctx context.Context, bundle string) (unlock func(), err error) {
	f, err := os.Open(bundle) // the directory itself: a full disk has no room for a file
	if err != nil {
		return nil, err
	}
	// flock(2) cannot be interrupted by ctx; the other holder is a cleanup
	// too, and bounded like this one. Whoever gets the lock has the file.
	fd := int(f.Fd())
	locked := make(chan error)
	go func() {
		err := unix.Flock(fd, unix.LOCK_EX)
		select {
		case locked <- err:
		case <-ctx.Done():
			_ = f.Close()
		}
	}()
	select {
	case err = <-locked:
	case <-ctx.Done():
		return nil, fmt.Errorf("another cleanup of %s is under way: %w", bundle, ctx.Err())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func killedNow() process.Exit { return process.Exit{Status: killed, At: time.Now()} }
