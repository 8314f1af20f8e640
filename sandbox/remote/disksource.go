// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// diskSource is a file or a block device of the host's that a guest gets as a
// disk.
type diskSource struct {
	path     string // or empty for the block device:
	device   uint64 // its number
	readOnly bool
}

// diskID is what two paths have in common that lead to one disk.
type diskID struct {
	block    bool
	dev, ino uint64 // of a file; of a block device its number, and 0
}

func (s diskSource) String() string {
	if s.path != "" {
		return s.path
	}
	return fmt.Sprintf("the block device %d:%d", unix.Major(s.device), unix.Minor(s.device))
}

// sysDevices is where sysfs(5) has the devices by their numbers.
const sysDevices = "/sys/dev/block"

// found is a source that was looked at and not opened yet, which may do things.
type found struct {
	diskSource
	id diskID
	at *os.File // O_PATH
}

// find looks at what is there.
func (s diskSource) find() (*found, error) {
	path := s.path
	if path == "" {
		var err error
		if path, err = nodeOf(s.device); err != nil {
			return nil, fmt.Errorf("use %s as a disk: %w", s, err)
		}
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("use %s as a disk: %w", s, err)
	}
	f := &found{diskSource: s, at: os.NewFile(uintptr(fd), path)}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		switch kind := st.Mode & unix.S_IFMT; {
		case kind == unix.S_IFREG && s.path != "":
			f.id = diskID{dev: st.Dev, ino: st.Ino}
		case kind == unix.S_IFBLK && (s.path != "" || st.Rdev == s.device):
			f.id = diskID{block: true, dev: st.Rdev}
		default:
			err = fmt.Errorf("%s is neither a file nor that block device: %w", path, errdefs.ErrInvalidArgument)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("use %s as a disk: %w", s, err), f.at.Close())
	}
	return f, nil
}

// open opens the disk for what it is used for, and sees to it that nobody else
// on this host uses it in a way that does not go with that: a block device that
// is written to is had exclusively (open(2), O_EXCL), so that it is not one that
// is mounted; a file is locked (flock(2)), for as long as the machine has it.
func (f *found) open() (*os.File, error) {
	flags := os.O_RDONLY
	if !f.readOnly {
		flags = os.O_RDWR
		if f.id.block {
			flags |= unix.O_EXCL
		}
	}
	file, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.at.Fd()), flags, 0)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("it is in use on the host, mounted perhaps, or by another VM: %w", errdefs.ErrFailedPrecondition)
	}
	if err == nil && !f.id.block {
		if err = f.lock(file); err != nil {
			_ = file.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("use %s as a disk: %w", f, err)
	}
	return file, nil
}

// lock locks an image against other VMs, and against being mounted twice.
func (s diskSource) lock(f *os.File) error {
	how := unix.LOCK_EX
	if s.readOnly {
		how = unix.LOCK_SH
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another VM has it as a disk that is written to, or would be disturbed by this one: %w", errdefs.ErrFailedPrecondition)
	} else if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	if s.readOnly {
		return nil
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file") // loop(4)
	if err != nil {
		return err
	}
	for _, b := range backing {
		path, err := os.ReadFile(b)
		if err != nil {
			continue // let go of since
		}
		if other, err := os.Stat(strings.TrimSuffix(string(path), "\n")); err == nil && os.SameFile(mine, other) {
			return fmt.Errorf("the host has it at /dev/%s, mounted perhaps: %w",
				filepath.Base(filepath.Dir(filepath.Dir(b))), errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// nodeOf is the node of a block device, by the name that the kernel gives it.
func nodeOf(device uint64) (string, error) {
	at := filepath.Join(sysDevices, fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device)), "uevent")
	data, err := os.ReadFile(at)
	if err != nil {
		return "", fmt.Errorf("the host has no such device: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name, nil
		}
	}
	return "", fmt.Errorf("%s does not name the device: %w", at, errdefs.ErrNotFound)
}
