// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"fmt"
)

// Pause stops the machine's CPUs: time stands still for the guest.
func (m *Machine) Pause(ctx context.Context) error {
	if err := m.qmp.Execute(ctx, "stop", nil, nil); err != nil {
		return fmt.Errorf("pause machine %s: %w", m.id, err)
	}
	return nil
}

// Resume lets a paused machine go on.
func (m *Machine) Resume(ctx context.Context) error {
	if err := m.qmp.Execute(ctx, "cont", nil, nil); err != nil {
		return fmt.Errorf("resume machine %s: %w", m.id, err)
	}
	return nil
}

// Balloon asks the guest to make do with so much memory, or gives it back up
// to what the machine has. The guest does it in its own time, or not at all.
func (m *Machine) Balloon(ctx context.Context, mib int) error {
	if mib < MinMemoryMiB {
		return fmt.Errorf("machine %s would be left with %d MiB of memory: %d are needed", m.id, mib, MinMemoryMiB)
	}
	if err := m.qmp.Execute(ctx, "balloon", map[string]any{"value": int64(mib) << 20}, nil); err != nil {
		return fmt.Errorf("resize the memory of machine %s: %w", m.id, err)
	}
	return nil
}

// MemoryMiB is what the balloon leaves the guest at present.
func (m *Machine) MemoryMiB(ctx context.Context) (int, error) {
	var b struct {
		Actual int64 `json:"actual"`
	}
	if err := m.qmp.Execute(ctx, "query-balloon", nil, &b); err != nil {
		return 0, fmt.Errorf("ask for the memory of machine %s: %w", m.id, err)
	}
	return int(b.Actual >> 20), nil
}
