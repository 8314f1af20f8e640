// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tree writes below one directory and keeps the first error: what follows an error does
// nothing, so that the writers read as tables. Modes are exact, whatever the umask.
type tree struct {
	root string
	err  error
}

func (t *tree) make(path string, make func(full string) error) {
	if t.err != nil {
		return
	}
	full := filepath.Join(t.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.err = err
		return
	}
	t.err = make(full)
}

func (t *tree) dir(path string) {
	t.make(path, func(full string) error { return os.MkdirAll(full, 0o755) })
}

// file replaces what was there.
func (t *tree) file(path, text string, mode fs.FileMode) {
	t.make(path, func(full string) error {
		if err := os.WriteFile(full, []byte(text), mode); err != nil {
			return err
		}
		return os.Chmod(full, mode)
	})
}

// text is a file of /proc or /sys that cannot be written.
func (t *tree) text(path, format string, args ...any) {
	t.file(path, fmt.Sprintf(format, args...), 0o444)
}

func (t *tree) link(path, target string) {
	t.make(path, func(full string) error { return os.Symlink(target, full) })
}

// linkTo links to another path of the tree, relatively, as sysfs does.
func (t *tree) linkTo(path, target string) {
	relative, err := filepath.Rel(filepath.Dir(path), target)
	if err != nil && t.err == nil {
		t.err = err
	}
	t.link(path, relative)
}

// node replaces a node that was there.
func (t *tree) node(path string, major, minor int, mode uint32) {
	t.make(path, func(full string) error {
		if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err := unix.Mknod(full, unix.S_IFCHR|mode, int(unix.Mkdev(uint32(major), uint32(minor))))
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("make device %s (%d:%d): a fake driver needs root and CAP_MKNOD: %w", full, major, minor, err)
		}
		if err != nil {
			return fmt.Errorf("make device %s (%d:%d): %w", full, major, minor, err)
		}
		return os.Chmod(full, fs.FileMode(mode))
	})
}

// copy takes a program or library in from outside.
func (t *tree) copy(path, from string, mode fs.FileMode) {
	if t.err != nil {
		return
	}
	data, err := os.ReadFile(from)
	if err != nil {
		t.err = err
		return
	}
	t.file(path, string(data), mode)
}

// socket is a unix socket that listens; the caller closes the descriptor. It is bound through
// its directory's descriptor because a path of a test is often longer than sun_path.
func (t *tree) socket(path string) (fd int) {
	t.make(path, func(full string) (err error) {
		dir, err := os.Open(filepath.Dir(full))
		if err != nil {
			return err
		}
		defer dir.Close()
		fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(full))
		if err = unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err == nil {
			err = unix.Listen(fd, 1)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("listen on %s: %w", full, err)
		}
		return os.Chmod(full, 0o666)
	})
	return fd
}
