// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Disk is a disk that a guest finds by its serial number.
type Disk struct {
	// Serial is 1 to 36 letters, digits or _.-; the guest reads it from the
	// disk (SCSI vital product data, page 0x80).
	Serial string
	// File is an image or a block device, open for reading and writing, or for
	// reading alone if ReadOnly: QEMU gets no more than it is to use. The
	// caller keeps it and may close it after AddDisk.
	File     *os.File
	ReadOnly bool
}

// maxSerial is what QEMU takes for a scsi-hd (hw/scsi/scsi-disk.c).
const maxSerial = 36

// disks are those of a machine, by serial.
type disks struct {
	mu      sync.Mutex
	present map[string]*disk
	last    int // number of the last that was added
}

type disk struct {
	name    string // in QEMU, where a node's has 31 characters at most
	fdset   int64
	gone    chan struct{} // closed when the guest has let go of it
	deleted bool          // guarded by disks.mu
}

func newDisks() disks { return disks{present: make(map[string]*disk)} }

// AddDisk gives the running machine a disk. On an error it has none of that serial.
func (m *Machine) AddDisk(ctx context.Context, d Disk) (retErr error) {
	if d.Serial == "" || len(d.Serial) > maxSerial || strings.Trim(d.Serial, idChars) != "" {
		return fmt.Errorf("serial number %.40q of a disk: 1 to %d letters, digits or _.- are needed: %w", d.Serial, maxSerial, errdefs.ErrInvalidArgument)
	}
	driver, err := d.driver()
	if err != nil {
		return fmt.Errorf("add disk %s: %w", d.Serial, err)
	}
	entry := &disk{gone: make(chan struct{})}
	if !m.disks.add(d.Serial, entry) {
		return fmt.Errorf("add disk %s: the machine has one of that serial number: %w", d.Serial, errdefs.ErrAlreadyExists)
	}
	defer func() {
		if retErr != nil {
			m.disks.remove(d.Serial)
			retErr = fmt.Errorf("add disk %s: %w", d.Serial, retErr)
		}
	}()
	var set struct {
		ID int64 `json:"fdset-id"`
	}
	if err := m.qmp.ExecuteFile(ctx, "add-fd", nil, &set, d.File); err != nil {
		return err
	}
	entry.fdset = set.ID
	type object = map[string]any
	err = m.qmp.Execute(ctx, "blockdev-add", object{
		"driver": "raw", "node-name": entry.name, "read-only": d.ReadOnly, "discard": "unmap",
		"file": object{"driver": driver, "filename": fmt.Sprintf("/dev/fdset/%d", set.ID), "read-only": d.ReadOnly, "discard": "unmap"},
	}, nil)
	if err != nil {
		return errors.Join(err, m.removeFD(ctx, entry))
	}
	err = m.qmp.Execute(ctx, "device_add", object{
		"driver": "scsi-hd", "bus": "scsi.0", "id": entry.name, "drive": entry.name, "serial": d.Serial,
		// Errors are the guest's to deal with. By default a machine whose disk's
		// file system is full would stop.
		"werror": "report", "rerror": "report",
	}, nil)
	if err != nil {
		return errors.Join(err, m.undoDisk(ctx, entry))
	}
	return nil
}

// undoTimeout is for answers of the monitor about what nobody waits for.
const undoTimeout = 10 * time.Second

// undoDisk takes back a disk that may not have become a device. If nobody waited
// for the monitor's answer it may have.
func (m *Machine) undoDisk(ctx context.Context, entry *disk) error {
	gaveUp := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if gaveUp && m.qmp.Execute(ctx, "device_del", map[string]any{"id": entry.name}, nil) == nil {
		select {
		case <-entry.gone:
		case <-m.done:
			return nil
		case <-ctx.Done():
		}
	}
	return errors.Join(m.removeNode(ctx, entry), m.removeFD(ctx, entry))
}

// driver is QEMU's for the file, which must be open for what the disk is for.
func (d Disk) driver() (string, error) {
	info, err := d.File.Stat()
	if err != nil {
		return "", err
	}
	raw, err := d.File.SyscallConn()
	if err != nil {
		return "", err
	}
	var flags int
	var flagsErr error
	if err := raw.Control(func(fd uintptr) { flags, flagsErr = unix.FcntlInt(fd, unix.F_GETFL, 0) }); err != nil || flagsErr != nil {
		return "", errors.Join(err, flagsErr)
	}
	want, how := unix.O_RDWR, "reading and writing"
	if d.ReadOnly {
		want, how = unix.O_RDONLY, "reading alone"
	}
	switch mode := info.Mode(); {
	case flags&unix.O_ACCMODE != want:
		return "", fmt.Errorf("%s must be open for %s: %w", d.File.Name(), how, errdefs.ErrInvalidArgument)
	case mode.IsRegular():
		return "file", nil
	case mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0:
		return "host_device", nil
	}
	return "", fmt.Errorf("%s is neither a regular file nor a block device: %w", d.File.Name(), errdefs.ErrInvalidArgument)
}

// RemoveDisk takes a disk away. The guest should have let go of it. After an
// error it may be called again.
func (m *Machine) RemoveDisk(ctx context.Context, serial string) error {
	entry := m.disks.get(serial)
	if entry == nil {
		return fmt.Errorf("remove disk %s: the machine has none of that serial number: %w", serial, errdefs.ErrNotFound)
	}
	if err := m.qmp.Execute(ctx, "device_del", map[string]any{"id": entry.name}, nil); err != nil && !entry.isGone() {
		return fmt.Errorf("remove disk %s: %w", serial, err)
	}
	select {
	case <-entry.gone:
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("remove disk %s: the guest does not let go of it: %w", serial, context.Cause(ctx))
	}
	if err := m.removeNode(ctx, entry); err != nil {
		return fmt.Errorf("remove disk %s: %w", serial, err)
	}
	m.disks.remove(serial)
	return m.removeFD(ctx, entry)
}

func (m *Machine) removeNode(ctx context.Context, d *disk) error {
	return m.qmp.Execute(ctx, "blockdev-del", map[string]any{"node-name": d.name}, nil)
}

func (m *Machine) removeFD(ctx context.Context, d *disk) error {
	return m.qmp.Execute(ctx, "remove-fd", map[string]any{"fdset-id": d.fdset}, nil)
}

// isGone is true for a disk that is no device any more: an earlier RemoveDisk has
// come so far.
func (d *disk) isGone() bool {
	select {
	case <-d.gone:
		return true
	default:
		return false
	}
}

func (d *disks) add(serial string, entry *disk) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.present[serial] != nil {
		return false
	}
	d.last++
	entry.name = fmt.Sprintf("disk%d", d.last)
	d.present[serial] = entry
	return true
}

func (d *disks) get(serial string) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.present[serial]
}

func (d *disks) remove(serial string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.present, serial)
}

// deleted takes the monitor's event of that name.
func (d *disks) deleted(data json.RawMessage) {
	var e struct {
		Device string `json:"device"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, entry := range d.present {
		if entry.name == e.Device && !entry.deleted {
			entry.deleted = true
			close(entry.gone)
		}
	}
}
