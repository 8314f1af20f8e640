// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
)

// gate serialises slow calls. Unlike a mutex, waiting for it can be given up.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// enter waits for the gate until ctx ends.
func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for an earlier call on the same container: %w", context.Cause(ctx))
	}
}

func (g gate) leave() { <-g }
