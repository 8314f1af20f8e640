// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scaffold is a directory of every host, over which the new root is made; in
// this mount namespace nobody else sees that.
const scaffold = "/tmp"

// setRoot sees to it that what is mounted in here does not appear on the host,
// and makes the new root.
func (s *Spec) setRoot() error {
	propagation, what := uintptr(unix.MS_PRIVATE), "private"
	if s.Shared != "" { // what the host mounts later is to be seen
		propagation, what = unix.MS_SLAVE, "slaves"
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
		return fmt.Errorf("make all mounts %s: %w", what, err)
	}
	return s.changeRoot()
}

// changeRoot replaces the root by a small one of its own.
func (s *Spec) changeRoot() error {
	// Shown paths may lie below the scaffold: they are opened before it is hidden.
	shown, err := s.openShown()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range shown {
			_ = f.Close()
		}
	}()
	shared, err := s.openShared()
	if err != nil {
		return err
	}
	// Devices are made here, so it is not nodev; nothing here can make more.
	if err := unix.Mount("jail", scaffold, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "size=1m,mode=0755"); err != nil {
		return fmt.Errorf("mount the new root: %w", err)
	}
	for _, f := range shown {
		if err := show(f); err != nil {
			return fmt.Errorf("show %s: %w", f.Name(), err)
		}
	}
	for _, d := range s.Devices {
		if err := s.makeDevice(d); err != nil {
			return fmt.Errorf("make device %s: %w", d.Path, err)
		}
	}
	if s.Proc {
		if err := s.mountProc(); err != nil {
			return fmt.Errorf("mount proc: %w", err)
		}
	}
	if err := s.attachShared(shared); err != nil {
		return fmt.Errorf("show %s: %w", s.Shared, err)
	}
	return enterRoot()
}

func (s *Spec) openShown() (files []*os.File, _ error) {
	for _, path := range s.Shown {
		// O_PATH follows links: what is shown is what the host sees there.
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return files, fmt.Errorf("show %s: %w", path, err)
		}
		files = append(files, os.NewFile(uintptr(fd), path))
	}
	return files, nil
}

// show binds an open file or directory to its own name in the new root.
func show(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	target := filepath.Join(scaffold, f.Name())
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if info.IsDir() {
		err = os.Mkdir(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o444)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	source := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	// A bind takes its flags only when it is mounted again (mount(2)).
	return unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "")
}

func (s *Spec) makeDevice(d Device) error {
	target := filepath.Join(scaffold, d.Path)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(target, unix.S_IFCHR|0o600, int(unix.Mkdev(d.Major, d.Minor))); err != nil {
		return err
	}
	// The program's own node: the host's may be for a group that it is not in.
	return os.Chown(target, s.UID, s.GID)
}

// enterRoot makes the scaffold the root, and lets the old one go
// (pivot_root(2), the way without a directory for the old root).
func enterRoot() error {
	if err := unix.Chdir(scaffold); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("make the new root read-only: %w", err)
	}
	return nil
}
