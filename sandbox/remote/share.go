// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// share is what a pod shares with its guest. Each container has a directory in
// it, with a mount point for its root file system and for each of its volumes:
//
//	DIR/mounts/CONTAINER/rootfs
//	DIR/mounts/CONTAINER/0, 1, ...
//
// The guest sees DIR/served, which has the same mounts but cannot be written to
// itself: the guest can change what is mounted on a mount point, and never
// where the host will mount next (CVE-2020-2026).
type share struct{ dir string }

func (s share) mounts() string { return filepath.Join(s.dir, "mounts") }
func (s share) served() string { return filepath.Join(s.dir, "served") }

// bind is something of the host's that a container gets.
type bind struct {
	name     string // in the container's directory
	source   string // absolute
	readOnly bool
	rec      bool // with what is mounted below it
	mapped   bool // its ids are those of the pod's user namespace
}

// open makes the directories, so that what is mounted later in the first comes
// to the second, and from there to whoever serves it in a mount namespace of
// its own.
func (s share) open() (retErr error) {
	for _, dir := range []string{s.mounts(), s.served()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make the pod's share: %w", err)
		}
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(fmt.Errorf("make the pod's share: %w", retErr), s.close())
		}
	}()
	mounts, served := s.mounts(), s.served()
	readOnly := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
	for _, step := range []func() error{
		func() error { return unix.Mount(mounts, mounts, "", unix.MS_BIND, "") },
		func() error { return unix.Mount("", mounts, "", unix.MS_SHARED, "") },
		func() error { return unix.Mount(mounts, served, "", unix.MS_BIND, "") },
		func() error { return unix.Mount("", served, "", unix.MS_SLAVE, "") },
		func() error { return unix.Mount("", served, "", unix.MS_SHARED, "") },
		func() error { return unix.MountSetattr(unix.AT_FDCWD, served, unix.AT_SYMLINK_NOFOLLOW, readOnly) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// close removes what open made. It may be called again.
func (s share) close() error {
	for _, dir := range []string{s.served(), s.mounts(), s.dir} {
		if err := detach(dir); err != nil {
			return err
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the pod's share: %w", err)
		}
	}
	return nil
}

// empty is true for the share of a pod that has no container left.
func (s share) empty() (bool, error) {
	entries, err := os.ReadDir(s.mounts())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look at the pod's share: %w", err)
	}
	return len(entries) == 0, nil
}

// add puts a container's binds in place. users is the pod's user namespace, or
// nil.
func (s share) add(id string, binds []bind, users *os.File) (retErr error) {
	dir := filepath.Join(s.mounts(), id)
	if err := os.Mkdir(dir, 0o711); err != nil {
		return fmt.Errorf("share with the guest: %w", err)
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, s.remove(id))
		}
	}()
	below := sync.OnceValues(kernelMounts)
	for _, b := range binds {
		if err := b.mount(filepath.Join(dir, b.name), users, below); err != nil {
			return fmt.Errorf("share %s with the guest: %w", b.source, err)
		}
	}
	return nil
}

// open opens the source, links followed, if it is something to share. below reads what
// may not be mounted in it.
func (b bind) open(below func() ([]kernelMount, error)) (fd int, st unix.Stat_t, err error) {
	fd, err = unix.Open(b.source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil {
		err = mayShare(fd, &st)
	}
	if err == nil && b.rec && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		var mounts []kernelMount
		if mounts, err = below(); err == nil {
			err = mayShareBelow(fd, mounts)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// check finds out whether the binds can be made, without making any.
func check(binds []bind) error {
	below := sync.OnceValues(kernelMounts)
	for _, b := range binds {
		fd, _, err := b.open(below)
		if err != nil {
			return fmt.Errorf("share %s with the guest: %w", b.source, err)
		}
		_ = unix.Close(fd)
	}
	return nil
}

// mount binds exactly the source, be it a directory or a single file. What is
// looked at is what is mounted: both go through one descriptor.
func (b bind) mount(target string, users *os.File, below func() ([]kernelMount, error)) error {
	fd, st, err := b.open(below)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(target, 0o711)
	} else {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return b.attach(fd, target, users)
}

// attach mounts a copy of what is mounted where fd is. What the copy may be
// used for is settled before it is attached: it is attached to the served tree
// in the same moment, and later changes here would not reach that.
//
// On the host nothing of it is a device or runs as its owner, and nothing that
// is mounted in it goes back to where it comes from; what is mounted there later
// comes here.
func (b bind) attach(fd int, target string, users *os.File) error {
	depth := uint(0)
	if b.rec {
		depth = unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|depth)
	if err != nil {
		return fmt.Errorf("copy the mount: %w", err)
	}
	defer func() { _ = unix.Close(tree) }()
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_SLAVE}
	if b.readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if b.mapped {
		if users == nil {
			return fmt.Errorf("its ids are to be mapped, and the pod has no user namespace: %w", errdefs.ErrInvalidArgument)
		}
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		if err := control(users, func(fd int) error { attr.Userns_fd = uint64(fd); return nil }); err != nil {
			return err
		}
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|depth, attr); err != nil {
		return fmt.Errorf("restrict the mount: %w", err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach the mount: %w", err)
	}
	return nil
}

// remove undoes add, however far that came.
func (s share) remove(id string) error {
	dir := filepath.Join(s.mounts(), id)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take back what is shared: %w", err)
	}
	for _, e := range entries {
		point := filepath.Join(dir, e.Name())
		if err := detach(point); err != nil {
			return err
		}
		// A mount point that something is still mounted on is not removed:
		// neither call follows what is in it.
		if err := os.Remove(point); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take back what is shared: %w", err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take back what is shared: %w", err)
	}
	return nil
}

// detach unmounts all that is on a mount point. What the guest still uses goes
// when it lets go.
func detach(point string) error {
	for {
		switch err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); {
		case err == nil: // there may be more
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return fmt.Errorf("detach %s: %w", point, err)
		}
	}
}
