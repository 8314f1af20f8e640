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
func (c *Config) launch(spec *jail.Spec, fds descriptors, namespaces uintptr) (*process.Process, error) {
	pipe, err := spec.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = pipe.Close() }()
	args := append(append([]string(nil), c.Launcher[1:]...), strconv.Itoa(fds.add(pipe)))
	return c.Supervisor.Start(&process.Command{
		Path: c.Launcher[0], Args: args, Files: fds, DieWithParent: true, Namespaces: namespaces,
	})
}

// vmmJail is what QEMU is left with.
func (c *Config) vmmJail(args []string, accel Accel, parent int, cgroups []string) (*jail.Spec, error) {
	devices, err := c.vmmDevices(accel)
	if err != nil {
		return nil, err
	}
	return &jail.Spec{
		Path: c.QEMU, Args: args, Cgroups: cgroups,
		Shown:   slices.Concat([]string{c.QEMU, c.Image.Kernel, c.Image.Initramfs}, libraries, firmware(c.QEMU), c.vfioShown()),
		Devices: devices, Proc: c.origin.memory != nil, Idle: c.origin.idle(), SmallBlocks: true,
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

// libraries are what a loader, and programs themselves, open: shared libraries,
// under every name that a merged or an unmerged /usr gives them.
var libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"}

// firmware is what even a microvm has, a few hundred bytes.
func firmware(qemu string) []string {
	share := filepath.Join(filepath.Dir(filepath.Dir(qemu)), "share")
	return []string{filepath.Join(share, "qemu"), filepath.Join(share, "seabios")}
}

// Capabilities that virtiofsd needs: to act for every user of the guest, and before
// that to put its root where the share is (SYS_CHROOT), to drop those (SETPCAP) and
// to have as many files open as it likes (SYS_RESOURCE).
//
// It could make namespaces by itself (sandbox=namespace), with CAP_SYS_ADMIN. But
// QEMU's library begins a thread (RCU) before virtiofsd's own program runs, and what
// virtiofsd drops later, and its own filter of system calls, are of its other threads:
// whoever took it over could mount, by that thread, and so get at all of the host.
var shareCapabilities = []int{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_MKNOD, unix.CAP_SETFCAP, unix.CAP_SYS_CHROOT, unix.CAP_SETPCAP, unix.CAP_SYS_RESOURCE,
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

// shareArguments is virtiofsd's command line. Of its sandboxes it is the one whose
// namespaces are its jail's; seccomp is on in each.
func (c *Config) shareArguments(listener int) []string {
	return append([]string{
		fmt.Sprintf("--fd=%d", listener), "-f", "-o", "source=" + c.Share, "-o", "sandbox=chroot",
		"-o", "announce_submounts", "-o", "xattr", "-o", "log_level=warn",
	}, c.shareCache()...)
}

// shareJail is what virtiofsd is left with.
func (c *Config) shareJail(args []string, parent int, cgroups []string) *jail.Spec {
	return &jail.Spec{
		Path: c.Virtiofsd, Args: args, Cgroups: cgroups,
		Shown: append([]string{c.Virtiofsd}, libraries...), Shared: c.Share,
		Proc: true, Settings: []string{"fs/file-max", "fs/nr_open"}, // its own limit of files is a part of that
		Capabilities: shareCapabilities, Filtered: true, Parent: parent,
	}
}

// startShare starts virtiofsd, which takes the one connection that listener
// has.
func (c *Config) startShare(listener, log *os.File, parent *os.File, cgroups []string) (*process.Process, error) {
	fds := descriptors{nil, log, log}
	args := c.shareArguments(fds.add(listener))
	// Nothing that it does is done by a network.
	p, err := c.launch(c.shareJail(args, fds.add(parent), cgroups), fds, jail.Namespaces|unix.CLONE_NEWNET)
	if err != nil {
		return nil, fmt.Errorf("start the daemon of the shared file system: %w", err)
	}
	return p, nil
}
