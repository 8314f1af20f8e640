// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// bind is something of the host's that a container gets.
type bind struct {
	name     string // in the container's directory
	source   string // absolute
	readOnly bool
	rec      bool // with what is mounted below it
	mapped   bool // its ids are those of the pod's user namespace
}

// open opens the source, links followed, if it is something to share. below reads what
// may not be mounted in it.
func (b bind) open(below func() ([]hostMount, error)) (fd int, st unix.Stat_t, err error) {
	fd, err = unix.Open(b.source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil {
		err = mayShare(fd, &st)
	}
	if err == nil && b.rec && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		var mounts []hostMount
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
	below := sync.OnceValues(hostMounts)
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
func (b bind) mount(f *folder, users *os.File, below func() ([]hostMount, error)) error {
	fd, st, err := b.open(below)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := f.makePoint(b.name, st.Mode&unix.S_IFMT == unix.S_IFDIR); err != nil {
		return fmt.Errorf("make the mount point %s: %w", b.name, err)
	}
	return b.attach(fd, f, users)
}

// attach mounts a copy of what is mounted where fd is. What the copy may be
// used for is settled before it is attached: it is attached to the served tree
// in the same moment, and later changes here would not reach that.
//
// On the host nothing of it is a device or runs as its owner, and nothing that
// is mounted in it goes back to where it comes from; what is mounted there later
// comes here.
func (b bind) attach(fd int, f *folder, users *os.File) error {
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
	if err := f.attach(tree, b.name); err != nil {
		return fmt.Errorf("attach the mount: %w", err)
	}
	return nil
}
