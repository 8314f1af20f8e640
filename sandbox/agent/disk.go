// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// Disks are those of a guest, by the serial numbers that the host gave them.
type Disks interface {
	// Find returns the node of a disk as soon as it is there.
	Find(ctx context.Context, serial string) (string, error)
	// Remove lets go of a disk. One that is not there is no error.
	Remove(serial string) error
}

// SCSIDisks are those of virtio-scsi.
type SCSIDisks struct{}

// diskTimeout is how long a disk may take to appear that the host has added
// already. It takes some hundredths of a second.
const diskTimeout = 30 * time.Second

// Find waits for the disk, if need be: the kernel looks for those that were
// added in its own time, and tells when it has found one.
func (SCSIDisks) Find(ctx context.Context, serial string) (string, error) {
	events, err := watchDevices() // before the first look, so that nothing is missed
	if err != nil {
		return "", err
	}
	defer func() { _ = events.Close() }()
	if err := events.SetReadDeadline(time.Now().Add(diskTimeout)); err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { _ = events.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 64<<10)
	for {
		name, err := findDisk(serial)
		if err != nil {
			return "", err
		}
		if name != "" {
			node := "/dev/" + name
			if err := mayOpen(node); err == nil {
				return node, nil
			} else if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENXIO) {
				return "", fmt.Errorf("open the disk %s: %w", serial, err)
			}
		}
		if _, err := events.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return "", errors.Join(fmt.Errorf("wait for the disk %s: %w", serial, err), context.Cause(ctx))
		}
	}
}

// mayOpen tries it: the kernel makes the entry in sysfs first, then the node, then
// what is behind it, and tells when all is there (device_add_disk, block/genhd.c).
func mayOpen(node string) error {
	fd, err := unix.Open(node, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// Remove takes the disk from the kernel.
func (SCSIDisks) Remove(serial string) error {
	name, err := findDisk(serial)
	if name == "" || err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join("/sys/block", name, "device/delete"), []byte("1"), 0); err != nil {
		return fmt.Errorf("remove the disk %s: %w", serial, err)
	}
	return nil
}

// findDisk is the kernel's name of a disk, such as sda; empty if it has none.
func findDisk(serial string) (string, error) {
	pages, err := filepath.Glob("/sys/block/sd*/device/vpd_pg80")
	if err != nil {
		return "", err
	}
	for _, p := range pages {
		// Four bytes of header, then the serial number (SPC-4, 7.8.13).
		if page, err := os.ReadFile(p); err == nil && len(page) > 4 && strings.TrimSpace(string(page[4:])) == serial {
			return filepath.Base(filepath.Dir(filepath.Dir(p))), nil
		}
	}
	return "", nil
}

// findDisk finds one for a call.
func (s *server) findDisk(ctx context.Context, serial string) (string, error) {
	if s.cfg.Disks == nil {
		return "", fmt.Errorf("this guest has no disks: %w", errdefs.ErrNotImplemented)
	}
	return s.cfg.Disks.Find(ctx, serial)
}

// RemoveDisk lets go of a disk.
func (s *server) RemoveDisk(_ context.Context, r *agentapi.DiskRequest) (*agentapi.Empty, error) {
	if s.cfg.Disks == nil {
		return &agentapi.Empty{}, nil
	}
	return &agentapi.Empty{}, s.cfg.Disks.Remove(r.Disk)
}
