// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// folder is a container's directory in the share. It is held open: what is made,
// mounted, unmounted and removed is what is in this directory, whatever its name
// leads to by then (CVE-2020-2024, CVE-2020-2026).
type folder struct{ *os.File }

// inside is how a name in a directory is opened: it is no link, and nothing is
// mounted on it (openat2(2)).
const inside = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV

// folder opens that of a container.
func (s share) folder(id string) (*folder, error) {
	mounts, err := openPlain(s.mounts())
	if err != nil {
		return nil, err
	}
	defer func() { _ = mounts.Close() }()
	var f *os.File
	err = control(mounts, func(fd int) error {
		opened, err := unix.Openat2(fd, id, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: inside})
		if err == nil {
			f = os.NewFile(uintptr(opened), id)
		}
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: mounts.Name() + "/" + id, Err: err}
	}
	return &folder{f}, nil
}

// openPlain opens a directory that is not to be a link. Links above it are the
// administrator's.
func openPlain(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// makePoint makes a mount point for a directory or a file. There must be nothing
// of that name.
func (f *folder) makePoint(name string, directory bool) error {
	return control(f.File, func(fd int) error {
		if directory {
			return unix.Mkdirat(fd, name, 0o711)
		}
		return unix.Mknodat(fd, name, unix.S_IFREG|0o600, 0)
	})
}

// attach mounts a detached tree on a mount point.
func (f *folder) attach(tree int, name string) error {
	return control(f.File, func(fd int) error {
		return unix.MoveMount(tree, "", fd, name, unix.MOVE_MOUNT_F_EMPTY_PATH) // does not follow a link
	})
}

// clear unmounts and removes all there is. A mount point that something is still
// mounted on is not removed: neither call follows what is in it.
func (f *folder) clear() error {
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := detach(procPath(f.File) + "/" + e.Name()); err != nil {
			return err
		}
		err := control(f.File, func(fd int) error {
			if e.IsDir() {
				return unix.Unlinkat(fd, e.Name(), unix.AT_REMOVEDIR)
			}
			return unix.Unlinkat(fd, e.Name(), 0)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the mount point %s: %w", e.Name(), err)
		}
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
