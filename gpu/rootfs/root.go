// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"path"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// resolve is how each path is resolved: as in the container, without magic
// links, and without entering what is mounted below the root.
const resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// retries bounds how often a resolution is repeated that the kernel gave up
// because something was renamed meanwhile (EAGAIN, openat2(2)).
const retries = 64

// Root is a container's root file system, held by a descriptor.
type Root struct {
	fd       int
	uid, gid int
}

// Open holds the root file system that is mounted on the host's directory dir.
// uid and gid are the host's ids of the container's root: 0 and 0 without a user
// namespace.
func Open(dir string, uid, gid int) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root file system %s: %w", dir, err)
	}
	return &Root{fd: fd, uid: uid, gid: gid}, nil
}

// Close lets go of the descriptor.
func (r *Root) Close() error { return unix.Close(r.fd) }

// open resolves p and opens what is there; the caller owns the descriptor.
func (r *Root) open(p string, flags uint64) (int, error) {
	if p == "" || p[0] != '/' || path.Clean(p) != p {
		return -1, fmt.Errorf("the path must be absolute and clean: %w", errdefs.ErrInvalidArgument)
	}
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	var err error
	for range retries {
		var fd int
		if fd, err = unix.Openat2(r.fd, p, &how); err == nil {
			return fd, nil
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return -1, err
}

// change opens the parent of p and calls f, as the container's root, with that
// directory and the last name of p.
func (r *Root) change(what, p string, f func(dir int, name string) error) error {
	name := path.Base(p)
	if name == "/" || name == "." {
		return failed(what, p, fmt.Errorf("the path has no last name: %w", errdefs.ErrInvalidArgument))
	}
	if path.Clean(p) != p {
		return failed(what, p, fmt.Errorf("the path must be absolute and clean: %w", errdefs.ErrInvalidArgument))
	}
	dir, err := r.open(path.Dir(p), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return failed(what, p, err)
	}
	defer unix.Close(dir)
	if err := r.asOwner(func() error { return f(dir, name) }); err != nil {
		return failed(what, p, err)
	}
	return nil
}

// failed says what was done to which path, and what a bare number of the kernel
// means here.
func failed(what, p string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.ENOSYS):
		err = errors.Join(err, errdefs.ErrNotImplemented)
		hint = " (openat2 is missing: Linux 5.6 or newer is needed, and no seccomp filter that hides it)"
	case errors.Is(err, unix.EXDEV):
		hint = " (something is mounted below the root file system on the way; it is not entered)"
	case errors.Is(err, unix.EOVERFLOW):
		hint = " (the container's root is not mapped in the mount of its root file system)"
	case errors.Is(err, unix.ELOOP):
		hint = " (the image has a loop of symbolic links there)"
	}
	return fmt.Errorf("%s %s in the container's root file system: %w%s", what, p, err, hint)
}
