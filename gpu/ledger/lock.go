// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Locked is a Dir whose lock is held. The lock is the open file's, so it dies with the process.
type Locked struct {
	*Dir
	lock *os.File
}

// ErrLocked says that another transaction holds a lock.
var ErrLocked = errors.New("another transaction holds the lock")

// TryLock is Lock for who has something else to do: ErrLocked is its error where it would have to
// wait, if only for a Lock that gave up and is about to let go.
func (d *Dir) TryLock() (*Locked, error) {
	f, err := d.openLock()
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(fmt.Errorf("lock GPU %s: %w", d.BusID, err), f.Close())
	}
	return d.locked(f)
}

// Lock makes the directory, if need be, and waits for the lock until ctx is done. A wait that was
// given up ends by itself, and lets go of what it then gets.
func (d *Dir) Lock(ctx context.Context) (*Locked, error) {
	f, err := d.openLock()
	if err != nil {
		return nil, err
	}
	// One file descriptor, used in a goroutine of its own: the kernel tells when the lock is free.
	fd := int(f.Fd())
	done := make(chan error)
	go func() {
		err := unix.Flock(fd, unix.LOCK_EX)
		for err == unix.EINTR {
			err = unix.Flock(fd, unix.LOCK_EX)
		}
		select {
		case done <- err:
		case <-ctx.Done():
			_ = f.Close()
		}
	}()
	select {
	case err := <-done:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock GPU %s: %w", d.BusID, err), f.Close())
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("another transaction holds the lock of GPU %s: %w", d.BusID, ctx.Err())
	}
	return d.locked(f)
}

func (d *Dir) openLock() (*os.File, error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, fmt.Errorf("make the ledger of GPU %s: %w", d.BusID, err)
	}
	f, err := os.OpenFile(filepath.Join(d.path, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock GPU %s: %w", d.BusID, err)
	}
	return f, nil
}

// locked is the directory once the file is locked.
func (d *Dir) locked(f *os.File) (*Locked, error) {
	l := &Locked{Dir: d, lock: f}
	if err := l.clean(); err != nil {
		return nil, errors.Join(err, l.Unlock())
	}
	return l, nil
}

// Unlock lets the next one in.
func (l *Locked) Unlock() error { return l.lock.Close() }

// clean removes what a writer left that died: nobody else writes now.
func (l *Locked) clean() error {
	left, err := filepath.Glob(filepath.Join(l.path, tmpPrefix+"*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// Write puts a record into the next state, on disk.
func (l *Locked) Write(r *Record, s State) error {
	if !slices.Contains(next[r.State], s) {
		return fmt.Errorf("record %s cannot go from %q to %q", r.ID, r.State, s)
	}
	r.State, r.Wrote = s, time.Now().UTC()
	r.Error = r.Error[:min(len(r.Error), maxError)]
	if err := r.check(); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	data, err := encode(r)
	if err != nil {
		return err
	}
	if err := replace(l.path, tmpPrefix+r.ID+suffix, r.ID+suffix, data, l.did); err != nil {
		return fmt.Errorf("write record %s of GPU %s: %w", r.ID, l.BusID, err)
	}
	return nil
}

// Remove forgets a record, or a torn file. It may be gone already.
func (l *Locked) Remove(id string) error {
	if id == "" || strings.ContainsRune(id, '/') {
		return fmt.Errorf("%q is no record", id)
	}
	if err := os.Remove(filepath.Join(l.path, id+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record %s of GPU %s: %w", id, l.BusID, err)
	}
	l.did("remove")
	return flush(l.path, l.did)
}

func (l *Locked) did(step string) {
	if l.step != nil {
		l.step(step)
	}
}
