// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"berth/process"
)

// Mount is one mount of a root file system, as containerd's snapshotter gave
// it; the first is the lowest.
type Mount struct {
	Type    string
	Source  string
	Target  string
	Options []string
}

// mountRootfs mounts a container's root file system at bundle/rootfs.
//
// The hold is for the mount helpers and the user namespaces that the mount
// library starts: it waits for those itself, so they must not be reaped here.
func mountRootfs(sup *process.Supervisor, bundle string, mounts []Mount) error {
	if len(mounts) == 0 {
		return nil
	}
	target := filepath.Join(bundle, "rootfs")
	if err := os.Mkdir(target, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the root file system's directory: %w", err)
	}
	all := make([]mount.Mount, 0, len(mounts))
	for _, m := range mounts {
		all = append(all, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	hold := sup.Hold()
	defer hold.Release()
	if err := mount.All(all, target); err != nil {
		return errors.Join(fmt.Errorf("mount the root file system: %w", err), unmountRootfs(bundle))
	}
	return nil
}

// unmountRootfs undoes mountRootfs, however far that came. It follows no
// symbolic link. What is busy is detached, so that it goes when its last user
// does.
func unmountRootfs(bundle string) error {
	target := filepath.Join(bundle, "rootfs")
	for {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil:
			continue // mounts may be stacked
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // no mount point (umount(2)), or no directory
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("unmount %s: %w", target, err)
		}
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			return fmt.Errorf("detach %s: %w", target, err)
		}
	}
}
