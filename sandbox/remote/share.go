// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

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

// open makes the directories, so that what is mounted later in the first comes
// to the second, and from there to whoever serves it in a mount namespace of
// its own.
func (s share) open() (retErr error) {
	for _, dir := range []string{s.mounts(), s.served()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make the pod's share: %w", err)
		}
		f, err := openPlain(dir) // what is shared is this directory, and none that a link leads to
		if err != nil {
			return fmt.Errorf("make the pod's share: %w", err)
		}
		_ = f.Close()
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
	if err := os.Mkdir(filepath.Join(s.mounts(), id), 0o711); err != nil {
		return fmt.Errorf("share with the guest: %w", err)
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, s.remove(id))
		}
	}()
	f, err := s.folder(id)
	if err != nil {
		return fmt.Errorf("share with the guest: %w", err)
	}
	defer func() { _ = f.Close() }()
	below := sync.OnceValues(hostMounts)
	for _, b := range binds {
		if err := b.mount(f, users, below); err != nil {
			return fmt.Errorf("share %s with the guest: %w", b.source, err)
		}
	}
	return nil
}

// remove undoes add, however far that came.
func (s share) remove(id string) error {
	f, err := s.folder(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.clear()
		_ = f.Close()
	}
	if err == nil {
		err = os.Remove(filepath.Join(s.mounts(), id))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take back what is shared: %w", err)
	}
	return nil
}
