// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
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
		if _, err := m.awaitBalloon(ctx, squeezeTimeout, func(has int) bool { return has == size }); err != nil {
			return fmt.Errorf("squeeze: %w", err)
		}
	}
	return nil
}
