// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownNamespace is the calling thread's, which is not always the process's.
const ownNamespace = "/proc/thread-self/ns/net"

// NewNamespace makes a network namespace with nothing in it, which lives as long
// as its descriptor and what runs in it. It is for a pod that has none yet.
func NewNamespace() (ns *os.File, err error) {
	err = onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		ns, err = os.Open(ownNamespace)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return ns, nil
}

// inside calls f on a thread that is in the namespace.
func inside(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		return nil
	}, f)
}

// onThread has move take a thread elsewhere, f called on it, and the thread come
// back. One that does not is not used again: it ends with its goroutine.
func onThread(move, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		result <- func() (err error) {
			home, err := os.Open(ownNamespace)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, home.Close()) }()
			if err := move(); err != nil {
				return err
			}
			err = f()
			if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
				return errors.Join(err, fmt.Errorf("leave the network namespace: %w", back))
			}
			runtime.UnlockOSThread()
			return err
		}()
	}()
	return <-result
}
