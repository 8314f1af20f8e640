// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// kernelFilesystems are those whose files are the host kernel's own, by the name
// that the kernel has for them (proc_pid_mountinfo(5)), with their magic number
// (statfs(2)). Those given as numbers are in no header that programs get
// (fs/configfs/mount.c, fs/fuse/control.c, net/sunrpc/rpc_pipe.c, fs/nfsd/nfsctl.c).
var kernelFilesystems = map[string]int64{
	"proc": unix.PROC_SUPER_MAGIC, "binfmt_misc": unix.BINFMTFS_MAGIC,
	"sysfs": unix.SYSFS_MAGIC, "cgroup": unix.CGROUP_SUPER_MAGIC, "cgroup2": unix.CGROUP2_SUPER_MAGIC,
	"debugfs": unix.DEBUGFS_MAGIC, "tracefs": unix.TRACEFS_MAGIC, "configfs": 0x62656570, "fusectl": 0x65735543,
	"securityfs": unix.SECURITYFS_MAGIC, "selinuxfs": unix.SELINUX_MAGIC, "smackfs": unix.SMACK_MAGIC,
	"bpf": unix.BPF_FS_MAGIC, "efivarfs": unix.EFIVARFS_MAGIC, "pstore": unix.PSTOREFS_MAGIC,
	"resctrl": unix.RDTGROUP_SUPER_MAGIC, "devpts": unix.DEVPTS_SUPER_MAGIC,
	"rpc_pipefs": 0x67596969, "nfsd": 0x6e667364,
}

const isKernels = "a file system of the host's kernel, which a VM must not see"

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
	for _, magic := range kernelFilesystems {
		if int64(fs.Type) == magic {
			what = "in " + isKernels
		}
	}
	if what != "" {
		return fmt.Errorf("it is %s: %w", what, errdefs.ErrInvalidArgument)
	}
	return nil
}

// mayShareBelow judges what is mounted below what an O_PATH descriptor is of,
// and would be shared with it. What is hidden under another mount counts too.
func mayShareBelow(fd int, mounts []hostMount) error {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	for _, m := range mounts {
		_, kernels := kernelFilesystems[m.filesystem]
		if kernels && m.point != path && strings.HasPrefix(m.point, strings.TrimSuffix(path, "/")+"/") {
			return fmt.Errorf("%s is mounted at %s in it, %s: %w", m.filesystem, m.point, isKernels, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
