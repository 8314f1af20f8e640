// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUpgrade goes from the oldest containerd to the newest on one root and state.
func TestUpgrade(t *testing.T) { testSuccession(t, versions(t)) }

// TestDowngrade goes back.
func TestDowngrade(t *testing.T) {
	all := versions(t)
	slices.Reverse(all)
	testSuccession(t, all)
}

// testSuccession has some containers see all versions, and one more of each version
// see the next.
func testSuccession(t *testing.T, all []version) {
	all = slices.DeleteFunc(all, func(v version) bool {
		err := v.missing()
		if err != nil {
			t.Logf("left out: %v", err)
		}
		return err != nil
	})
	if len(all) < 2 {
		t.Skip("two versions of containerd are needed")
	}
	h := newHost(t)
	h.start(t, all[0])
	h.loadImages(t)
	veterans := map[string]int{"veteran": h.runIdle(t, "veteran", ""), "veteran-a": h.runIdle(t, "veteran-a", "v")}
	veterans["veteran-b"] = h.runIdle(t, "veteran-b", "v")
	pod := h.runPod(t, "veteran")
	pod.works(t)
	previous := "of-" + all[0].name
	pid := h.runIdle(t, previous, "")
	for _, v := range all[1:] {
		from := h.version.name
		h.stop(t, unix.SIGTERM)
		h.start(t, v)
		t.Logf("containerd %s after %s", v.name, from)
		if got := h.taskPid(t, previous); got != pid {
			t.Errorf("the container of %s has pid %d, want %d", from, got, pid)
		}
		h.exec(t, previous)
		h.remove(t, previous)
		for id, want := range veterans {
			if got := h.taskPid(t, id); got != want {
				t.Errorf("%s has pid %d, want %d", id, got, want)
			}
			h.exec(t, id)
		}
		pod.works(t)
		// A container joins a shim that an earlier containerd started.
		joined := h.runIdle(t, "joined", "v")
		if a, b := h.shimOf(t, veterans["veteran-a"]), h.shimOf(t, joined); a != b {
			t.Errorf("shims %d and %d, want one", a, b)
		}
		h.exec(t, "joined")
		h.remove(t, "joined")
		previous = "of-" + v.name
		pid = h.runIdle(t, previous, "")
	}
	h.remove(t, previous)
	for id := range veterans {
		h.remove(t, id)
	}
	pod.remove(t)
}
