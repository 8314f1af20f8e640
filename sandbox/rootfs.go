// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
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
func mountRootfs(sup *process.Supervisor, bundle string, mounts []Mount) error {
	if len(mounts) == 0 {
		return nil
	}
	target := filepath.Join(bundle, "rootfs")
	if err := os.Mkdir(target, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the root file system's directory: %w", err)
	}
	// What is mounted through a link would not be found again to be unmounted.
	if info, err := os.Lstat(target); err != nil || !info.IsDir() {
		return errors.Join(fmt.Errorf("%s is no directory, so nothing can be mounted there; remove it: %w",
			target, errdefs.ErrInvalidArgument), err)
	}
	all := make([]mount.Mount, 0, len(mounts))
	for _, m := range mounts {
		all = append(all, mount.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	if startsHelpers(mounts) {
		defer sup.Spare().Release()
	}
	if err := mount.All(all, target); err != nil {
		return errors.Join(fmt.Errorf("mount the root file system: %w", err), unmountRootfs(bundle))
	}
	return nil
}

// startsHelpers is true where the mount library may run a program, for FUSE, or
// a process to hold a user namespace, for idmapped layers. It waits for those
// itself.
func startsHelpers(mounts []Mount) bool {
	return slices.ContainsFunc(mounts, func(m Mount) bool {
		return strings.Contains(m.Type, "fuse") || slices.ContainsFunc(m.Options, func(o string) bool {
			return strings.HasPrefix(o, "uidmap=") || strings.HasPrefix(o, "gidmap=")
		})
	})
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
