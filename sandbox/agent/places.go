// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
)

// maxStarting is how many processes are started at a time. Each start takes
// programs of some 10 MiB of their own, and a guest has as little memory as its
// containers need: 64 at once leave 256 MiB without any.
const maxStarting = 8

// places are what those have that start a process.
type places chan struct{}

func newPlaces() places { return make(places, maxStarting) }

// take waits for a place; the caller leaves it.
func (p places) take(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %d other processes to start: %w", maxStarting, ctx.Err())
	}
}

func (p places) leave() { <-p }
