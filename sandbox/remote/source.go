// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// kernelFilesystems are those whose files are the host kernel's own, by their
// magic number (statfs(2)).
var kernelFilesystems = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
	unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.DEVPTS_SUPER_MAGIC,
}

// mayShare judges what an O_PATH descriptor is of, links followed. What a guest
// cannot use, or must not, is refused with a sentence.
func mayShare(fd int, st *unix.Stat_t) error {
	var what string
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFREG:
	case unix.S_IFSOCK:
		what = "a socket, and nobody in a VM can connect to one of the host"
	case unix.S_IFBLK, unix.S_IFCHR:
		what = "a device of the host, which a VM does not have"
	default:
		what = "neither a directory nor a file"
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	if slices.Contains(kernelFilesystems, int64(fs.Type)) {
		what = "in a file system of the host's kernel, which a VM must not see"
	}
	if what != "" {
		return fmt.Errorf("it is %s: %w", what, errdefs.ErrInvalidArgument)
	}
	return nil
}
