// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"berth/sandbox/netlink"
)

// Record is what somebody needs who did not make the redirects, to remove them.
type Record struct {
	// Path is where the namespace was, and Namespace its cookie: another may
	// be there by now.
	Path      string
	Namespace uint64
	// Interfaces are the numbers of the pod's own that have a redirect, or were
	// to have one.
	Interfaces []uint32
}

// Remove removes the redirects that there are. A namespace that cannot be found
// any more has taken them with it.
func (r *Record) Remove() error {
	if len(r.Interfaces) == 0 {
		return nil
	}
	ns, err := os.OpenFile(r.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the pod's network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }()
	if !isNamespace(ns) { // the mount point of one that was unmounted
		return nil
	}
	return inside(ns, func() error {
		conn, err := netlink.Dial()
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if is, err := conn.Namespace(); err != nil || is != r.Namespace {
			return err
		}
		var errs []error
		for _, index := range r.Interfaces {
			errs = append(errs, restore(conn, index))
		}
		return errors.Join(errs...)
	})
}
