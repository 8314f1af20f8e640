// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// MountShare mounts what the host shares, in a guest that has such a device; it
// is false in one that has none (yet).
func MountShare() (bool, error) {
	if err := os.MkdirAll(agentapi.ShareDir, 0o711); err != nil {
		return false, fmt.Errorf("make the mount point of the share: %w", err)
	}
	err := unix.Mount(agentapi.ShareTag, agentapi.ShareDir, "virtiofs", 0, "")
	if errors.Is(err, unix.EINVAL) { // no device of that tag (virtio_fs_get_tree, fs/fuse/virtio_fs.c)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mount the share: %w", err)
	}
	return true, nil
}

// unmountShare lets go of what was mounted by itself below the container's
// directory in the share: each mount of the host's there is one of the guest's
// once it was walked through (fuse, auto-submounts).
func (s *server) unmountShare(id string) error {
	if s.cfg.Share == "" {
		return nil
	}
	below, err := mountsBelow(filepath.Join(s.cfg.Share, id))
	if err != nil {
		return fmt.Errorf("let go of the share: %w", err)
	}
	var errs []error
	for _, point := range slices.Backward(below) {
		if err := unmountAt(point); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// unmountAt unmounts what is mounted at a path that leads through no link. The
// list of mounts is of a moment ago, and a container that can write to a volume
// may since have put a link in the place of a directory on the way, which would
// lead to a mount of the guest's own (CVE-2020-2024, in the guest).
func unmountAt(point string) error {
	fd, err := openPlain(point)
	if err == nil {
		defer func() { _ = unix.Close(fd) }()
		err = unix.Unmount(fmt.Sprintf("/proc/self/fd/%d", fd), unix.MNT_DETACH)
	}
	if slices.ContainsFunc([]error{unix.EINVAL, unix.ENOENT, unix.ENOTDIR, unix.ESTALE}, func(gone error) bool { return errors.Is(err, gone) }) {
		return nil
	}
	return err
}

// mountsBelow lists the mount points in or at dir, outer ones first.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var points []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 6) // proc_pid_mountinfo(5): the fifth is the mount point
		if len(fields) < 6 {
			continue
		}
		point := octal.Replace(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points, lines.Err()
}

// octal are the escapes of mountinfo.
var octal = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
