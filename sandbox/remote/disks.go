// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"berth/sandbox/agentapi"
)

// Disker is a Machine that can be given disks while it runs.
type Disker interface {
	// AddDisk gives it one that the guest finds by its serial number. The
	// file stays the caller's, who may close it afterwards.
	AddDisk(ctx context.Context, serial string, file *os.File, readOnly bool) error
	// RemoveDisk takes one away that the guest has let go of.
	RemoveDisk(ctx context.Context, serial string) error
}

const (
	// diskTimeout is for the monitor's part in a disk's coming and going, which
	// takes an emulated machine some hundredths of a second.
	diskTimeout = 30 * time.Second
	// letGoTimeout is for the guest's part in its going, after which it goes all
	// the same.
	letGoTimeout = 3 * time.Second
)

// disks are those of one guest. A disk that several containers have is there
// once: the layers of an image, a volume that is shared.
type disks struct {
	mu      sync.Mutex
	last    int                // number of the last that there was
	present map[diskID]*disk   // with at least one user
	held    map[string][]*disk // by container, once for each use
}

type disk struct {
	id       diskID
	readOnly bool
	gate     chan struct{} // serialises what is slow: the disk's coming and going
	serial   string        // guarded by gate; empty as long as the machine has it not
	users    int           // guarded by disks.mu
}

// take notes one more use of a disk.
func (d *disks) take(container string, id diskID, readOnly bool) (*disk, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	entry := d.present[id]
	if entry == nil {
		if d.present == nil {
			d.present, d.held = make(map[diskID]*disk), make(map[string][]*disk)
		}
		entry = &disk{id: id, readOnly: readOnly, gate: make(chan struct{}, 1)}
		d.present[id] = entry
	}
	if entry.readOnly && !readOnly {
		return nil, fmt.Errorf("another container of the pod has it read-only: %w", errdefs.ErrFailedPrecondition)
	}
	entry.users++
	d.held[container] = append(d.held[container], entry)
	return entry, nil
}

// only is true for a disk that has one use left.
func (d *disks) only(entry *disk) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return entry.users == 1
}

// drop forgets one use of a disk.
func (d *disks) drop(container string, entry *disk) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := d.held[container]
	at := slices.Index(held, entry)
	if at < 0 {
		return
	}
	if held = slices.Delete(held, at, at+1); len(held) > 0 {
		d.held[container] = held
	} else {
		delete(d.held, container)
	}
	if entry.users--; entry.users == 0 {
		delete(d.present, entry.id)
	}
}

// of is a disk that a container has, or nil if it has none.
func (d *disks) of(container string) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if held := d.held[container]; len(held) > 0 {
		return held[len(held)-1]
	}
	return nil
}

func (d *disks) newSerial() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	return fmt.Sprintf("berth%d", d.last)
}

// addDisk gives the guest a disk for a container, unless it has it already, and
// returns its serial number. The use that it notes ends with removeDisks, also
// after an error.
func (r *guest) addDisk(ctx context.Context, container string, s diskSource) (serial string, err error) {
	machine, ok := r.machine.(Disker)
	if !ok {
		return "", fmt.Errorf("this VM takes no disks: %w", errdefs.ErrNotImplemented)
	}
	found, err := s.find()
	if err != nil {
		return "", err
	}
	defer func() { _ = found.at.Close() }()
	entry, err := r.disks.take(container, found.id, s.readOnly)
	if err != nil {
		return "", fmt.Errorf("use %s as a disk: %w", s, err)
	}
	select {
	case entry.gate <- struct{}{}:
		defer func() { <-entry.gate }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if entry.serial != "" {
		return entry.serial, nil
	}
	file, err := found.open()
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	serial = r.disks.newSerial()
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	if err := machine.AddDisk(ctx, serial, file, s.readOnly); err != nil {
		return "", fmt.Errorf("give the VM %s as a disk: %w", s, err)
	}
	entry.serial = serial
	return serial, nil
}

// removeDisks takes away the disks that a container has had and no other has.
// It may be called again.
func (r *guest) removeDisks(ctx context.Context, container string) error {
	ask := true
	for entry := r.disks.of(container); entry != nil; entry = r.disks.of(container) {
		if err := r.removeDisk(ctx, container, entry, &ask); err != nil {
			return err
		}
	}
	return nil
}

func (r *guest) removeDisk(ctx context.Context, container string, entry *disk, ask *bool) error {
	select {
	case entry.gate <- struct{}{}:
		defer func() { <-entry.gate }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// Who takes it from here on waits at the gate, and adds it again.
	if entry.serial != "" && r.disks.only(entry) {
		if err := r.unplug(ctx, entry.serial, ask); err != nil {
			return err
		}
		entry.serial = ""
	}
	r.disks.drop(container, entry)
	return nil
}

// unplug takes a disk from the guest, and then from the machine, whatever the
// guest says: it is not its to keep. A guest that did not answer is not asked again.
func (r *guest) unplug(ctx context.Context, serial string, ask *bool) error {
	if r.isDead() {
		return nil
	}
	var guestErr error
	if *ask {
		_, guestErr = call(ctx, r, letGoTimeout, "let go of a disk", r.agent.RemoveDisk, &agentapi.DiskRequest{Disk: serial})
		*ask = !errors.Is(guestErr, context.DeadlineExceeded)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diskTimeout)
	defer cancel()
	err := r.machine.(Disker).RemoveDisk(ctx, serial)
	if r.isDead() || errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return errors.Join(fmt.Errorf("take a disk from the VM: %w", err), guestErr)
	}
	return nil
}
