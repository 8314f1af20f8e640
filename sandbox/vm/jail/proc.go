// SPDX-License-Identifier: Apache-2.0

package jail

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// own is where its processes are if /proc has settings as well.
const own = "/processes"

// mountProc mounts what there is of this PID namespace: no file of the whole
// system's (proc(5), subset=pid), which leaves out settings too.
func (s *Spec) mountProc() error {
	if len(s.Settings) == 0 {
		return mountProcAt("/proc")
	}
	for _, name := range s.Settings {
		path := filepath.Join("/proc/sys", name)
		value, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		copied := filepath.Join(scaffold, path)
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(copied, value, 0o444); err != nil {
			return err
		}
	}
	if err := os.Symlink(own+"/self", filepath.Join(scaffold, "proc/self")); err != nil {
		return err
	}
	return mountProcAt(own)
}

func mountProcAt(dir string) error {
	target := filepath.Join(scaffold, dir)
	if err := os.Mkdir(target, 0o555); err != nil {
		return err
	}
	return unix.Mount("proc", target, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "subset=pid")
}

// openShared makes a copy of the mounts that are shared, which gets what the host
// mounts there later, as all mounts here do. It is -1 if there is nothing to share.
func (s *Spec) openShared() (int, error) {
	if s.Shared == "" {
		return -1, nil
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, s.Shared, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("share %s: %w", s.Shared, err)
	}
	return tree, nil
}

func (s *Spec) attachShared(tree int) error {
	if tree < 0 {
		return nil
	}
	defer func() { _ = unix.Close(tree) }()
	target := filepath.Join(scaffold, s.Shared)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
