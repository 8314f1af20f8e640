// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"berth/sandbox/agentapi"
)

// The host is told at once, then no faster than the protocol has it, and whoever
// ends the watch does not wait for that.
func TestOOMIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		var told []time.Duration
		notify := paced(ctx, func(uint64) { told = append(told, time.Since(began)) })
		for kills := range uint64(3) {
			notify(kills + 1)
		}
		stop()
		notify(4)
		for i, at := range told {
			if want := min(time.Duration(i), 3) * agentapi.OOMInterval; at != want {
				t.Errorf("told for the %d. time after %v, not %v", i+1, at, want)
			}
		}
		if took := time.Since(began); len(told) != 4 || took != 3*agentapi.OOMInterval {
			t.Errorf("told %d times in %v", len(told), took)
		}
	})
}
