// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/containerd/errdefs"

	"berth/process/cgroup"
)

// makeCgroup makes the cgroup of the machine's processes in each hierarchy.
func (b *booting) makeCgroup() error {
	if b.Cgroup == "" {
		return nil
	}
	loc, err := cgroup.Claim(b.Cgroup)
	if err != nil {
		return fmt.Errorf("make the cgroup of machine %s: %w", b.ID, err)
	}
	for _, d := range loc.Dirs {
		if err := os.MkdirAll(d.Path, 0o755); err != nil {
			return fmt.Errorf("make the cgroup of machine %s: %w", b.ID, err)
		}
	}
	delegate(loc)
	// From here on undo removes it.
	if b.machine.cgroup, err = cgroup.Load(loc); err != nil {
		return fmt.Errorf("open the cgroup of machine %s: %w", b.ID, err)
	}
	devices, err := b.vmmDevices(b.machine.accel)
	if err != nil {
		return err
	}
	if err := filterDevices(loc, devices); err != nil {
		return fmt.Errorf("confine machine %s: %w", b.ID, err)
	}
	if dir, ok := loc.Dirs["cpuset"]; ok {
		if err := fillCPUSet(dir.Path); err != nil {
			return fmt.Errorf("confine machine %s: %w", b.ID, err)
		}
	}
	tasks := strconv.Itoa(vmmTasks)
	err = errors.Join(b.machine.limitMemory(b.MemoryMiB), b.machine.set(knob{"pids", "pids.max", tasks}, knob{"pids", "pids.max", tasks}))
	if err != nil {
		return fmt.Errorf("confine machine %s: %w", b.ID, err)
	}
	return nil
}

// Cgroup says where the machine's processes are, for a program that has to end
// them when this one is gone (cgroup.Load). It is false without a cgroup.
func (m *Machine) Cgroup() (cgroup.Location, bool) {
	if m.cgroup == nil {
		return cgroup.Location{}, false
	}
	return m.cgroup.Location(), true
}

// Stats appends the metrics of the machine's processes on the host: see
// cgroup.Cgroup. The error is errdefs.ErrNotFound without a cgroup.
func (m *Machine) Stats(dst []byte) (encoded []byte, typeURL string, err error) {
	if m.cgroup == nil {
		return nil, "", fmt.Errorf("machine %s has no cgroup: %w", m.id, errdefs.ErrNotFound)
	}
	return m.cgroup.Stats(dst)
}

func (m *Machine) cgroupDirs() (dirs []string) {
	if m.cgroup == nil {
		return nil
	}
	for _, d := range m.cgroup.Location().Dirs {
		dirs = append(dirs, d.Path)
	}
	return dirs
}

// removeCgroup kills what may be left in the cgroup and removes it.
func (m *Machine) removeCgroup(ctx context.Context) error {
	if m.cgroup == nil {
		return nil
	}
	err := m.cgroup.Kill(ctx)
	if errdefs.IsNotFound(err) { // an earlier Close has let go of it
		return nil
	}
	return errors.Join(err, m.cgroup.Remove(ctx), m.cgroup.Close())
}
