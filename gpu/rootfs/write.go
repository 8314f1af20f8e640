// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// tempPrefix begins the name that a new file has until it takes its place. It is
// always the same, so that one left by a crash goes away with the next write.
const tempPrefix = ".berth-"

// MkdirAll makes the directory p and its parents, mode 0755, where they are missing.
func (r *Root) MkdirAll(p string) error {
	fd, err := r.open(p, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, unix.ENOENT) {
		return failed("make directory", p, err)
	}
	if err := r.MkdirAll(path.Dir(p)); err != nil {
		return err
	}
	return r.change("make directory", p, func(dir int, name string) error {
		if err := unix.Mkdirat(dir, name, 0o755); err != nil && err != unix.EEXIST {
			return err
		} else if err == unix.EEXIST {
			// Something that the open above could not enter: a dangling link, or a
			// directory that appeared meanwhile, which is as good.
			var st unix.Stat_t
			if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR {
				return fmt.Errorf("a %s that leads to no directory is there: %w", kind(st), errdefs.ErrFailedPrecondition)
			}
			return nil
		}
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fchmod(fd, 0o755) // whatever the umask is
	})
}

// WriteFile makes p a regular file with this content and mode, in place of
// whatever had the name; a directory is not replaced.
func (r *Root) WriteFile(p string, data []byte, mode uint32) error {
	return r.change("write", p, func(dir int, name string) error {
		return replace(dir, name, func(temp string) error {
			flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
			fd, err := unix.Openat(dir, temp, flags, mode)
			if err != nil {
				return err
			}
			f := os.NewFile(uintptr(fd), temp)
			_, err = f.Write(data)
			return errors.Join(err, unix.Fchmod(fd, mode), f.Close())
		})
	})
}

// Symlink makes p a symbolic link to target, in place of whatever had the name; a
// directory is not replaced.
func (r *Root) Symlink(target, p string) error {
	return r.change("link", p, func(dir int, name string) error {
		err := unix.Symlinkat(target, dir, name)
		if err != unix.EEXIST {
			return err
		}
		now := make([]byte, unix.PathMax)
		if n, err := unix.Readlinkat(dir, name, now); err == nil && string(now[:n]) == target {
			return nil
		}
		err = replace(dir, name, func(temp string) error { return unix.Symlinkat(target, dir, temp) })
		if err == unix.EISDIR {
			return fmt.Errorf("a directory is there and stays: %w", errdefs.ErrFailedPrecondition)
		}
		return err
	})
}

// Remove removes what p names, a link itself and not what it leads to. A
// directory stays; what is missing is no error.
func (r *Root) Remove(p string) error {
	err := r.change("remove", p, func(dir int, name string) error { return unix.Unlinkat(dir, name, 0) })
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// replace has create make something under a temporary name and renames it to name.
func replace(dir int, name string, create func(temp string) error) error {
	temp := tempPrefix + name
	if err := unix.Unlinkat(dir, temp, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove what is left of an earlier write, %s: %w", temp, err)
	}
	err := create(temp)
	if err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if err != nil {
		unix.Unlinkat(dir, temp, 0) // the first error is the one to tell
	}
	return err
}
