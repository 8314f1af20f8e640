// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/sandbox/runtimetest"
)

// A device that is passed through comes with the machine: a container that the
// machine was not made for cannot have one.
func TestPassthroughIsForTheFirst(t *testing.T) {
	device := specs.LinuxDevice{Path: "/dev/vfio/12", Type: "c", Major: 511}
	pod := runtimetest.NewPod(t, newGuestHost(t).Host)
	first := pod.Box("a", "exit 4")
	first.AddDevice(device)
	first.Create()
	second := pod.Box("b", "exit 0")
	second.AddDevice(device)
	if err := second.TryCreate(); err == nil || !strings.Contains(err.Error(), "/dev/vfio/12 comes with a container that is not the first") {
		t.Errorf("a later container: %v", err)
	}
	first.Delete("")
}
