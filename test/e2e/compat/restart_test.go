// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testShimKilled(t *testing.T, h *host) {
	first, second := h.runIdle(t, "dead-a", "d"), h.runIdle(t, "dead-b", "d")
	if err := unix.Kill(h.shimOf(t, first), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.awaitDeath(t, first)
	h.awaitDeath(t, second)
	for _, id := range []string{"dead-a", "dead-b"} {
		h.await(t, "bundle of "+id+" to go", func() bool { return !exists(h.bundle(id)) })
		h.awaitStatus(t, id, "")
		h.ctr(t, "containers", "rm", id)
	}
}

func testRestart(t *testing.T, h *host) {
	pid := h.runIdle(t, "stays", "")
	a, b := h.runIdle(t, "stays-a", "s"), h.runIdle(t, "stays-b", "s")
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		h.stop(t, signal)
		h.start(t, h.version)
		for id, want := range map[string]int{"stays": pid, "stays-a": a, "stays-b": b} {
			if got := h.taskPid(t, id); got != want {
				t.Errorf("%s has pid %d after the restart, want %d", id, got, want)
			}
			h.exec(t, id)
		}
	}
	for _, id := range []string{"stays", "stays-a", "stays-b"} {
		h.remove(t, id)
	}
}

// testAway ends a container, and the shim of another one, while containerd is away.
func testAway(t *testing.T, h *host) {
	ended, orphan := h.runIdle(t, "ended", ""), h.runIdle(t, "orphan", "")
	shim := h.shimOf(t, orphan)
	h.stop(t, unix.SIGKILL)
	for _, pid := range []int{ended, shim} {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		h.awaitDeath(t, pid)
	}
	h.start(t, h.version)
	h.awaitStatus(t, "ended", "STOPPED")
	if _, code, stderr := h.try(t, "ctr", "tasks", "delete", "ended"); code != 0 || !strings.Contains(stderr, "137") {
		t.Errorf("delete: status %d, want ctr to tell exit status 137: %s", code, stderr)
	}
	h.awaitDeath(t, orphan)
	h.awaitStatus(t, "orphan", "")
	if exists(h.bundle("orphan")) {
		t.Errorf("bundle %s is left", h.bundle("orphan"))
	}
	for _, id := range []string{"ended", "orphan"} {
		h.ctr(t, "containers", "rm", id)
	}
}
