// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PortName is the name of the virtio-serial port that leads to the host.
const PortName = "agent"

// portTimeout is how long the port may take to appear after its driver was
// loaded. The device tells of it by a message, which on an overcommitted host
// may wait for a CPU; a port that does not come is a machine that was set up
// wrong, and the panic that follows says so on the console.
const portTimeout = 30 * time.Second

// watchDevices listens to what the kernel tells of devices (netlink(7),
// NETLINK_KOBJECT_UEVENT, group 1 is the kernel's).
func watchDevices() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen to the kernel's device events: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listen to the kernel's device events: %w", err)
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}

// openPort opens the port of that name, when it is there.
func openPort(name string, events *os.File) (*os.File, error) {
	if err := events.SetReadDeadline(time.Now().Add(portTimeout)); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	for {
		path, err := findPort("/sys/class/virtio-ports", name)
		if err != nil {
			return nil, err
		}
		if path != "" {
			port, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return nil, fmt.Errorf("open the port to the host: %w", err)
			}
			return port, nil
		}
		// A message that did not fit the socket's buffer (ENOBUFS) is news as well.
		if _, err := events.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return nil, fmt.Errorf("wait for the virtio-serial port %q: %w", name, err)
		}
	}
}

// findPort looks for the device of a port; "" if there is none by that name yet.
func findPort(class, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(class, "*/name"))
	if err != nil {
		return "", err
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(string(data)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(f)), nil
		}
	}
	return "", nil
}
