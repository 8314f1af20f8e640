// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// connect makes a connected pair of sockets: one end for this process, one to
// be inherited.
func connect(what string) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the %s's socket: %w", what, err)
	}
	theirs := os.NewFile(uintptr(fds[1]), what)
	ours := os.NewFile(uintptr(fds[0]), what)
	defer func() { _ = ours.Close() }() // FileConn has its own
	conn, err := net.FileConn(ours)
	if err != nil {
		_ = theirs.Close()
		return nil, nil, fmt.Errorf("make the %s's socket: %w", what, err)
	}
	return conn.(*net.UnixConn), theirs, nil
}

// listen makes a socket that listens and one that is connected to it, both to
// be inherited. Nobody else can reach the listener: its name is in a file
// system that is mounted nowhere, and that goes away with this call.
func listen(what string) (listener, connected *os.File, err error) {
	nowhere, err := detached()
	if err != nil {
		return nil, nil, fmt.Errorf("make the %s's socket: %w", what, err)
	}
	defer func() { _ = unix.Close(nowhere) }()
	name := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", nowhere, what)}
	for _, f := range []struct {
		to  **os.File
		use func(fd int) error
	}{
		{&listener, func(fd int) error {
			if err := unix.Bind(fd, name); err != nil {
				return err
			}
			return unix.Listen(fd, 1)
		}},
		{&connected, func(fd int) error { return unix.Connect(fd, name) }},
	} {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			*f.to = os.NewFile(uintptr(fd), what)
			err = f.use(fd)
		}
		if err != nil {
			closeAll(listener, connected)
			return nil, nil, fmt.Errorf("make the %s's socket: %w", what, err)
		}
	}
	return listener, connected, nil
}

// detached is an empty file system of this process alone (fsmount(2)).
func detached() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(fs) }()
	if err := unix.FsconfigSetString(fs, "mode", "0700"); err != nil {
		return -1, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}
