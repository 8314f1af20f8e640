// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/vm/jail"
	"berth/sandbox/vm/kvm"
)

const (
	// vmmFiles is enough for a few hundred disks.
	vmmFiles = 1024
	// vmmThreads is for 255 virtual CPUs and QEMU's pool of 64.
	vmmThreads = 512
)

// launch starts a program in a jail, through the launcher. fds are what it
// inherits; standard output and error are the first two after standard input.
func (c *Config) launch(spec *jail.Spec, fds descriptors) (*process.Process, error) {
	pipe, err := spec.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = pipe.Close() }()
	args := append(append([]string(nil), c.Launcher[1:]...), strconv.Itoa(fds.add(pipe)))
	return c.Supervisor.Start(&process.Command{
		Path: c.Launcher[0], Args: args, Files: fds, DieWithParent: true, Namespaces: jail.Namespaces,
	})
}

// vmmJail is what QEMU is left with.
func (c *Config) vmmJail(args []string, accel Accel, parent int, cgroups []string) (*jail.Spec, error) {
	devices, err := c.vmmDevices(accel)
	if err != nil {
		return nil, err
	}
	return &jail.Spec{
		Path: c.QEMU, Args: args, Cgroups: cgroups, Root: true,
		Shown:   slices.Concat([]string{c.QEMU, c.Image.Kernel, c.Image.Initramfs}, libraries(c.QEMU), c.vfioShown()),
		Devices: devices, Proc: c.origin.memory != nil, Idle: c.origin.idle(),
		UID: c.UID, GID: c.GID, OpenFiles: vmmFiles, Threads: vmmThreads, Locked: c.vfioLocked(), Parent: parent,
	}, nil
}

// vmmDevices are those that QEMU opens.
func (c *Config) vmmDevices(accel Accel) ([]jail.Device, error) {
	devices := []jail.Device{
		{Path: "/dev/null", Major: 1, Minor: 3}, {Path: "/dev/urandom", Major: 1, Minor: 9},
	}
	devices = append(devices, c.vfioDevices()...)
	if accel != KVM {
		return devices, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(kvm.Device, &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", kvm.Device, err)
	}
	return append(devices, jail.Device{Path: kvm.Device, Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}), nil
}

// libraries are what QEMU's loader and QEMU itself open: shared libraries, and
// the few hundred bytes of firmware that even a microvm has. They are shown
// under every name that a merged or an unmerged /usr gives them.
func libraries(qemu string) []string {
	share := filepath.Join(filepath.Dir(filepath.Dir(qemu)), "share")
	return []string{
		"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
		filepath.Join(share, "qemu"), filepath.Join(share, "seabios"),
	}
}

// Capabilities that virtiofsd needs: to make its own jail (SYS_ADMIN, SETPCAP,
// SYS_RESOURCE for its limit of files), and then to act for every user of the
// guest; it drops the former itself (tools/virtiofsd/passthrough_ll.c of QEMU).
var shareCapabilities = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_MKNOD, unix.CAP_SETFCAP, unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_SYS_RESOURCE,
}

// shareAttention is after how many seconds a guest asks again what it knows of a
// file: what the host changes is seen that much later.
const shareAttention = 1

// shareCache is what virtiofsd has the guest believe. "always" lets it keep a
// file's pages when the file is opened again, which "auto" forbids: a program would
// be read anew each time that it is run. It asks again for names, sizes and times
// all the same, unless it need not; where size or time differ, it lets go of the
// pages and of the directory's names (FUSE_AUTO_INVAL_DATA, fs/fuse/inode.c).
func (c *Config) shareCache() []string {
	if c.ShareCached {
		return []string{"-o", "cache=always"} // for a day
	}
	return []string{"-o", "cache=always", "-o", fmt.Sprintf("timeout=%d", shareAttention)}
}

// shareArguments is virtiofsd's command line. Its own sandbox, with namespaces and
// seccomp, is the default; it is named here so that no other can be meant.
func (c *Config) shareArguments(listener int) []string {
	return append([]string{
		fmt.Sprintf("--fd=%d", listener), "-f", "-o", "source=" + c.Share, "-o", "sandbox=namespace",
		"-o", "announce_submounts", "-o", "xattr", "-o", "log_level=warn",
	}, c.shareCache()...)
}

// startShare starts virtiofsd, which takes the one connection that listener
// has.
func (c *Config) startShare(listener, log *os.File, parent *os.File, cgroups []string) (*process.Process, error) {
	fds := descriptors{nil, log, log}
	spec := &jail.Spec{
		Path: c.Virtiofsd, Args: c.shareArguments(fds.add(listener)), Cgroups: cgroups,
		Capabilities: shareCapabilities, Parent: fds.add(parent),
	}
	p, err := c.launch(spec, fds)
	if err != nil {
		return nil, fmt.Errorf("start the daemon of the shared file system: %w", err)
	}
	return p, nil
}
