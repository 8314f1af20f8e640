// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// The driver's own numbers: NV_MAJOR_DEVICE_NUMBER and the minors of
// kernel-open/common/inc/nv.h, and those of nvidia-uvm/uvm_linux_ioctl.h.
const (
	nvidiaMajor  = 195
	ctlMinor     = 255
	modesetMinor = 254
	uvmMinor     = 0
	toolsMinor   = 1
)

// Node reads a device node of the host as it is now. The path is the one in
// the container, as in "/dev/nvidia0". An error of a node that does not exist
// is fs.ErrNotExist too, and says how to make it.
func (r Roots) Node(path string) (Node, error) {
	name, ok := strings.CutPrefix(path, "/dev/")
	if !ok || !filepath.IsLocal(name) {
		return Node{}, fmt.Errorf("%.256q is no path of a device node below /dev: %w", path, errdefs.ErrInvalidArgument)
	}
	n := Node{Path: path, Host: r.dev(name)}
	var st unix.Stat_t
	err := unix.Lstat(n.Host, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return Node{}, fmt.Errorf("device node %s is missing on the host: %s: %w (%w)", n.Host, nodeAdvice(name), errdefs.ErrFailedPrecondition, fs.ErrNotExist)
	}
	if err != nil {
		return Node{}, fmt.Errorf("lstat device node %s: %w", n.Host, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return Node{}, fmt.Errorf("%s is no character device: remove it; then %s: %w", n.Host, nodeAdvice(name), errdefs.ErrFailedPrecondition)
	}
	n.Major, n.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	n.Mode, n.UID, n.GID = fs.FileMode(st.Mode&0o777), st.Uid, st.Gid
	return n, nil
}

// nodeAdvice says how a node below /dev comes to be (nvidia-modprobe(1)).
func nodeAdvice(name string) string {
	for _, a := range []struct{ prefix, advice string }{
		{"nvidia-uvm", "load its module with `modprobe nvidia_uvm` and make it with `nvidia-modprobe -u -c 0`"},
		{"nvidia-modeset", "load its module and make it with `nvidia-modprobe -m`"},
		{imexDir, "the administrator makes it with `mknod`, major as in /proc/devices and the channel's number as minor"},
		{"nvidia-caps", "make it with `nvidia-modprobe -f` and the capability's file below /proc/driver/nvidia/capabilities"},
		{"nvidia-nvswitch", "start the fabric manager, or make it with `nvidia-modprobe -s -c` and its number"},
		{"nvidia-fs", "load GPUDirect Storage with `modprobe nvidia_fs`"},
		{"nvidiactl", "make it with `nvidia-modprobe -c 255`"},
		{"nvidia", "make it with `nvidia-modprobe -c " + strings.TrimPrefix(name, "nvidia") + "`"},
		{"gdrdrv", "load GDRCopy with `modprobe gdrdrv` and make the node with its service"},
		{"infiniband", "load its modules with `modprobe -a ib_uverbs rdma_ucm`"},
		{"dri", "load its module with `modprobe nvidia_drm`"},
	} {
		if strings.HasPrefix(name, a.prefix) {
			return a.advice
		}
	}
	return "load the module that it belongs to"
}
