// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
)

// SetClock is asked by the host.
func (s *server) SetClock(_ context.Context, r *agentapi.ClockRequest) (*agentapi.Empty, error) {
	if s.cfg.SetClock == nil {
		return &agentapi.Empty{}, nil
	}
	return &agentapi.Empty{}, s.cfg.SetClock(r.Time)
}

// SetClock sets the clock of this kernel, to nanoseconds since 1970.
func SetClock(nsec int64) error {
	now := unix.NsecToTimespec(nsec)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}
