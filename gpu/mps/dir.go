// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
)

// Host is where the daemons of one host are, and how they are run.
type Host struct {
	// Dir has a directory for each daemon.
	Dir string
	// Helper is the program berth-gpu.
	Helper string
	// DriverRoot is the root of the driver's files, DevRoot the directory of
	// the device nodes.
	DriverRoot, DevRoot string
	Supervisor          *process.Supervisor
	// Multiuser has daemons serve clients of any user, by a server of root's.
	Multiuser bool
}

// pod is the directory of one daemon, locked.
type pod struct {
	*Host
	path string
	lock *os.File // the directory
	rec  *Record  // nil where there is none
}

// fs is where the pod's own file system is mounted.
func (p *pod) fs(path ...string) string {
	return filepath.Join(append([]string{p.path, "fs"}, path...)...)
}

// lockPod locks the directory of a key, and makes it if that is wanted. Without
// one the error is fs.ErrNotExist. With now it does not wait: unix.EWOULDBLOCK.
func (h *Host) lockPod(ctx context.Context, key string, make, now bool) (*pod, error) {
	path := filepath.Join(h.Dir, key)
	for {
		if make {
			if err := errors.Join(os.MkdirAll(h.Dir, 0o700), ignore(os.Mkdir(path, 0o700), fs.ErrExist)); err != nil {
				return nil, fmt.Errorf("make the directory of an MPS daemon: %w", err)
			}
		}
		dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if make && errors.Is(err, fs.ErrNotExist) {
			continue // it was removed since
		}
		if err != nil {
			return nil, err
		}
		if err := flock(ctx, dir, now); err != nil {
			return nil, err
		}
		here, err := dir.Stat()
		there, gone := os.Lstat(path)
		if err == nil && gone == nil && os.SameFile(here, there) {
			return (&pod{Host: h, path: path, lock: dir}).read()
		}
		_ = dir.Close() // who had the lock has removed it
		if ctx.Err() != nil {
			return nil, fmt.Errorf("lock the directory of an MPS daemon: %w", ctx.Err())
		}
	}
}

func (p *pod) read() (*pod, error) {
	var err error
	if p.rec, err = readRecord(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.unlock()
		return nil, err
	}
	return p, nil
}

func (p *pod) unlock() { _ = p.lock.Close() }

// flock closes f if it does not get the lock. flock(2) cannot be interrupted: a
// wait that was given up ends by itself, and lets go of what it then gets.
func flock(ctx context.Context, f *os.File, now bool) error {
	fd, how := int(f.Fd()), unix.LOCK_EX
	if now {
		if err := unix.Flock(fd, how|unix.LOCK_NB); err != nil {
			_ = f.Close()
			return err
		}
		return nil
	}
	locked := make(chan error)
	go func() {
		err := unix.Flock(fd, how)
		for err == unix.EINTR {
			err = unix.Flock(fd, how)
		}
		select {
		case locked <- err:
		case <-ctx.Done():
			_ = f.Close()
		}
	}()
	select {
	case err := <-locked:
		if err != nil {
			_ = f.Close()
			return fmt.Errorf("lock the directory of an MPS daemon: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another process starts or stops the pod's MPS daemon: %w", ctx.Err())
	}
}

// Records are those of all daemons of the host. One that cannot be read is
// passed over: a sweep tells of it.
func (h *Host) Records() []Record {
	var out []Record
	for _, key := range h.keys() {
		if r, err := readRecord(filepath.Join(h.Dir, key)); err == nil {
			out = append(out, *r)
		}
	}
	return out
}

func (h *Host) keys() (keys []string) {
	entries, _ := os.ReadDir(h.Dir) // there is none before the first daemon
	for _, e := range entries {
		if e.IsDir() {
			keys = append(keys, e.Name())
		}
	}
	return keys
}

// Lost are the members of an owner's daemon that has ended, if it was that one
// and nobody has stopped it.
func (h *Host) Lost(o Owner, daemon Process) (members []string) {
	r, err := readRecord(filepath.Join(h.Dir, o.key()))
	if err != nil || r.State != Ready || r.Daemon != daemon {
		return nil
	}
	for _, m := range r.Members {
		members = append(members, m.ID)
	}
	return members
}

// Alive says whether the daemon runs.
func (r *Record) Alive() bool { return r.thisBoot() && r.Daemon.alive() }

// hidden says that the daemon is of this boot and its pids are of another pid
// namespace: neither it nor its containers can be seen to live from here, or be
// killed.
func (r *Record) hidden() bool {
	ns, err := process.PIDNamespace()
	return r.thisBoot() && (err != nil || ns != r.PIDNamespace)
}

// thisBoot is true where the contrary cannot be shown.
func (r *Record) thisBoot() bool {
	boot, err := bootID()
	return err != nil || boot == r.BootID
}

func ignore(err error, expected ...error) error {
	for _, e := range expected {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// isGone says that there is no such process, or file.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// bounded is a context of our own for what must be finished whatever becomes of
// the caller's request; a deadline that the caller has still counts.
func bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(d)
	if theirs, ok := ctx.Deadline(); ok && theirs.Before(end) {
		end = theirs
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}
