// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// mountFlags are the options that are flags (mount(2)).
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME,
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC, "lazytime": unix.MS_LAZYTIME,
}

// makeMounts makes a container's file systems, in their order. What was made
// is noted in c, also if one fails.
func (s *server) makeMounts(ctx context.Context, c *container, mounts []*agentapi.Mount) error {
	for _, m := range mounts {
		if err := s.isForMounts(m.Target); err != nil {
			return err
		}
		if err := os.MkdirAll(m.Target, 0o711); err != nil {
			return fmt.Errorf("make a mount point: %w", err)
		}
		c.mounts = append(c.mounts, m.Target)
		if err := s.makeMount(ctx, m); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Type, m.Target, err)
		}
		if err := makeDirectories(m.Target, m.Directories); err != nil {
			return fmt.Errorf("make a directory in a file system of type %s: %w", m.Type, err)
		}
	}
	return nil
}

// isForMounts judges where something is to be mounted.
func (s *server) isForMounts(target string) error {
	if s.cfg.DiskDir == "" || !strings.HasPrefix(target, s.cfg.DiskDir+"/") || target != filepath.Clean(target) {
		return fmt.Errorf("a file system at %q: only %q/... is for them: %w", target, s.cfg.DiskDir, errdefs.ErrInvalidArgument)
	}
	return nil
}

func (s *server) makeMount(ctx context.Context, m *agentapi.Mount) error {
	flags, data := uintptr(0), []string(nil)
	for _, o := range m.Options {
		if f, ok := mountFlags[o]; ok {
			flags |= f
		} else {
			data = append(data, o)
		}
	}
	switch m.Type {
	case "bind":
		if err := bindPlain(m.Source, m.Target); err != nil {
			return err
		}
		return restrict(m.Target, flags)
	case "overlay", "tmpfs":
		return unix.Mount(m.Type, m.Target, m.Type, flags, strings.Join(data, ","))
	case "ext2", "ext3", "ext4", "erofs":
	default:
		return fmt.Errorf("that is none that is mounted here: %w", errdefs.ErrInvalidArgument)
	}
	node, err := s.findDisk(ctx, m.Disk)
	if err != nil {
		return err
	}
	for _, serial := range m.Devices {
		device, err := s.findDisk(ctx, serial)
		if err != nil {
			return err
		}
		data = append(data, "device="+device)
	}
	return mountDisk(node, m.Target, m.Type, flags, strings.Join(data, ","))
}

// bindPlain binds what a path leads to without a link on the way: what is on a
// disk its image has chosen, and a link there would lead to the guest's own files.
func bindPlain(source, target string) error {
	fd, err := openPlain(source)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND, "")
}

// openPlain opens a path that leads through no link, for what needs no more than
// its place.
func openPlain(path string) (int, error) {
	return unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
}

// mountDisk mounts a disk. The file system itself is read-only if the disk is:
// another container may have mounted it, and one that is to be read-only for one
// of them is then so at its mount point (EBUSY otherwise, fs/super.c).
func mountDisk(node, target, kind string, flags uintptr, data string) error {
	readOnly, err := isReadOnly(node)
	if err != nil {
		return err
	}
	own := flags &^ unix.MS_RDONLY
	if readOnly {
		own |= unix.MS_RDONLY
	}
	if err := unix.Mount(node, target, kind, own, data); err != nil {
		return err
	}
	if flags == own {
		return nil
	}
	return restrict(target, flags)
}

// restrict sets the flags of one mount point.
func restrict(target string, flags uintptr) error {
	const atPoint = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME
	if flags&atPoint == 0 {
		return nil
	}
	return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|flags&atPoint, "")
}

func isReadOnly(node string) (bool, error) {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(fd) }()
	ro, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	return ro != 0, err
}

// makeDirectories makes those of a file system, without following what links
// there may be in it.
func makeDirectories(at string, all []*agentapi.Directory) error {
	if len(all) == 0 {
		return nil
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, d := range all {
		err := root.Mkdir(d.Name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			var info fs.FileInfo
			if info, err = root.Lstat(d.Name); err == nil && !info.IsDir() {
				err = fmt.Errorf("%s is no directory: %w", d.Name, errdefs.ErrFailedPrecondition)
			}
		} else if err == nil { // the mode regardless of the umask, which the owner would take its bits from
			err = errors.Join(root.Lchown(d.Name, int(d.Uid), int(d.Gid)), root.Chmod(d.Name, unixMode(d.Mode)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unixMode are the permissions in a mode of the kernel's.
func unixMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// undoMounts unmounts what makeMounts made. What is on the disks is complete
// afterwards, and they can be taken away. It may be called again.
func (c *container) undoMounts() error {
	var errs []error
	for _, target := range slices.Backward(c.mounts) {
		if err := unmountDisk(target); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", target, err))
			continue // and its directory is not removed: something is there
		}
		errs = append(errs, ignoreMissing(os.Remove(target)))
	}
	if len(c.mounts) > 0 {
		errs = append(errs, ignoreMissing(os.Remove(filepath.Dir(c.mounts[0]))))
	}
	return errors.Join(errs...)
}

// unmountDisk unmounts a file system, after it was written to its disk: a copy
// of the mount, in a container that is about to start, may keep it for a moment.
func unmountDisk(target string) error {
	fd, err := unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err == nil {
		_ = unix.Syncfs(fd) // a disk that cannot be written to has been told of to whoever wrote
		_ = unix.Close(fd)
	}
	for {
		switch err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); {
		case err == nil: // there may be more
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return err
		}
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
