// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// lock serialises those who create, join or remove one socket. Its file is
// there only while somebody holds or waits for it: the holder removes it
// before letting go, and who then gets hold of the removed file, which says
// nothing any more, tries again with the new one.
type lock struct{ file *os.File }

func lockSocket(socket string) (*lock, error) {
	path := socket + ".lock"
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock the shim's socket: %w", err)
		}
		err = flock(f, unix.LOCK_EX)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		current, err := isAt(f, path)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if current {
			return &lock{f}, nil
		}
		_ = f.Close()
	}
}

func (l *lock) release() {
	_ = os.Remove(l.file.Name())
	_ = l.file.Close()
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isAt tells whether path still leads to the open file f.
func isAt(f *os.File, path string) (bool, error) {
	have, err := f.Stat()
	if err != nil {
		return false, err
	}
	at, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(have, at), nil
}

// closeSocket removes a socket and what lies beside it, so that the next
// `start` of the group begins a shim of its own, if may says that the shim may
// end. It asks under the lock, where no `start` can be joining, and tells the
// answer. The shim calls it before it answers the request that ended it and
// while it still listens.
func closeSocket(socket string, may func() bool) (bool, error) {
	l, err := lockSocket(socket)
	if errors.Is(err, fs.ErrNotExist) {
		return may(), nil // the directory has gone, and all in it
	}
	if err != nil {
		return may(), err // a socket left behind is better than a shim
	}
	defer l.release()
	if !may() {
		return false, nil
	}
	return true, removeSocketLocked(socket)
}

// RemoveStaleSocket removes what a shim that was killed left at socket, and
// nothing if a shim listens there.
func RemoveStaleSocket(socket string) error {
	if _, err := os.Lstat(socket); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l, err := lockSocket(socket)
	if err != nil {
		return err
	}
	defer l.release()
	if alive, err := listening(socket); alive || err != nil {
		return err
	}
	return removeSocketLocked(socket)
}

func removeSocketLocked(socket string) error {
	return errors.Join(removeFile(socket), removeFile(servedPath(socket)))
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
