// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

// TestClockAfterPause stops a machine for some seconds: its guest then has the
// host's time, and not what it had.
func TestClockAfterPause(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{VM: "pause = \"machine\"\n"})
		ctx := testContext(t, n)
		c := create(ctx, t, n, r, request{args: idle})
		exit := start(ctx, t, c.task)
		if err := c.task.Pause(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.task.Metrics(ctx); err == nil {
			t.Error("the machine runs, though its container is paused")
		}
		<-time.After(3 * time.Second) // what the guest is to miss
		before := time.Now().Unix()
		if err := c.task.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		out, code := c.exec1(ctx, t, "date", nil, "date", "+%s")
		var sec int64
		// What is set was on its way for a moment.
		if _, err := fmt.Sscan(out, &sec); err != nil || code != 0 || sec < before-1 || sec > time.Now().Unix() {
			t.Errorf("the guest has the time %d (%v, status %d), it was resumed at %d", sec, err, code, before)
		}
		kill(ctx, t, c.task, unix.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}
