// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// leaveRootfs puts a mount of the initramfs over the initramfs. A runtime
// enters a container by pivot_root(2), which the kernel refuses as long as the
// present root is rootfs itself, because that cannot be moved away.
func leaveRootfs() error {
	const root = "/new"
	if err := unix.Mount("/", root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the initramfs: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter the bind mount of the initramfs: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the bind mount of the initramfs over /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("make the bind mount of the initramfs the root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	// What a container mounts in its own namespace stays there by its own
	// doing; shared lets it see what is mounted here later, as on a host.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make the root shared: %w", err)
	}
	return nil
}

const noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mounts are the file systems of a guest, as a host's init would mount them.
var mounts = []struct {
	kind, path string
	flags      uintptr
	data       string
}{
	{"proc", "/proc", noExec, ""},
	{"sysfs", "/sys", noExec, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
	{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666,gid=5"},
	{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"mqueue", "/dev/mqueue", noExec, ""},
	{"cgroup2", "/sys/fs/cgroup", noExec, "nsdelegate"},
	{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
}

func mountAll() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return fmt.Errorf("make the mount point of %s: %w", m.kind, err)
		}
		if err := unix.Mount(m.kind, m.path, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.kind, m.path, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx",
	} {
		// devtmpfs has a node ptmx of its own, which is for the first devpts.
		_ = os.Remove("/dev/" + name)
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	return nil
}
