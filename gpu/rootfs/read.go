// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Stat describes what p leads to, symbolic links followed inside of the root.
func (r *Root) Stat(p string) (unix.Stat_t, error) { return r.stat(p, 0) }

// Lstat describes what p itself is.
func (r *Root) Lstat(p string) (unix.Stat_t, error) { return r.stat(p, unix.O_NOFOLLOW) }

func (r *Root) stat(p string, flags uint64) (unix.Stat_t, error) {
	var st unix.Stat_t
	fd, err := r.open(p, unix.O_PATH|flags)
	if err == nil {
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
	}
	if err != nil {
		return st, failed("look at", p, err)
	}
	return st, nil
}

// OpenFile opens a regular file to read. The caller closes it.
func (r *Root) OpenFile(p string) (*os.File, error) {
	f, err := r.openFile(p)
	if err != nil {
		return nil, failed("open", p, err)
	}
	return f, nil
}

func (r *Root) openFile(p string) (*os.File, error) {
	fd, err := r.open(p, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("a regular file was expected, found a %s: %w", kind(st), errdefs.ErrFailedPrecondition)
	}
	// The same file again, now to read: by its descriptor, not by a name that may have
	// changed hands. O_NONBLOCK: a lease on the file (fcntl(2)) would make open wait.
	name := "/proc/self/fd/" + strconv.Itoa(fd)
	again, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", name, err)
	}
	return os.NewFile(uintptr(again), p), nil
}

// ReadFile reads a regular file of at most max bytes.
func (r *Root) ReadFile(p string, max int64) ([]byte, error) {
	f, err := r.OpenFile(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("more than %d bytes: %w", max, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, failed("read", p, err)
	}
	return data, nil
}

// ReadDir lists the names in a directory that has at most max of them.
func (r *Root) ReadDir(p string, max int) ([]string, error) {
	fd, err := r.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, failed("list", p, err)
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	names, err := f.Readdirnames(max + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, failed("list", p, err)
	}
	if len(names) > max {
		return nil, failed("list", p, fmt.Errorf("more than %d entries: %w", max, errdefs.ErrFailedPrecondition))
	}
	return names, nil
}

// kind names a file's type for a person.
func kind(st unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return fmt.Sprintf("regular file of %d bytes", st.Size)
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "FIFO"
	case unix.S_IFSOCK:
		return "socket"
	default:
		return "device node"
	}
}
