// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

const (
	// squeezeMost bounds the machines that are squeezed: a page at a time is given
	// back, and what a boot leaves behind is the same in one of any size.
	squeezeMost = 4 << 10 // MiB
	// squeezeTimeout is for a guest that runs only when nothing else does. One
	// that does not give all that is asked for becomes a template all the same.
	squeezeTimeout = 20 * time.Second
)

// squeeze has a guest give its free memory back, for a moment: what its boot has
// left there would be part of every clone.
func (m *Machine) squeeze(ctx context.Context, mib int) error {
	if mib > squeezeMost {
		return nil
	}
	for _, size := range []int{MinMemoryMiB, mib} {
		if err := m.Balloon(ctx, size); err != nil {
			return err
		}
		if err := m.awaitBalloon(ctx, size); err != nil {
			return err
		}
	}
	return nil
}

// awaitBalloon waits until the guest has so much memory, or for long enough.
func (m *Machine) awaitBalloon(ctx context.Context, mib int) error {
	timer := time.NewTimer(squeezeTimeout)
	defer timer.Stop()
	for {
		select {
		case actual := <-m.balloon:
			if actual == int64(mib)<<20 {
				return nil
			}
		case <-timer.C:
			return nil
		case <-m.qmp.Done():
			return fmt.Errorf("squeeze machine %s: %w", m.id, m.qmp.Err())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ballooned takes the monitor's event of a change, of which the last counts.
func (m *Machine) ballooned(data json.RawMessage) {
	var e struct {
		Actual int64 `json:"actual"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	for {
		select {
		case m.balloon <- e.Actual:
			return
		case <-m.balloon: // nobody has taken the one before
		}
	}
}
