// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/configs"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// A list has no room on a GPU on which a container would get no slice, and says why.
func TestListLeavesAlone(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 4})
	answer := nvml.MIGList{}
	for i, g := range d.GPUs {
		answer.GPUs = append(answer.GPUs, nvml.MIGGPU{Index: i, UUID: g.UUID, BusID: g.BusID, Mode: nvml.MIGEnabled, Slots: 8,
			Fits: []nvml.MIGFit{{Profile: "1g.18gb", Count: 7}}})
	}
	answer.GPUs[1].LeftAlone, answer.GPUs[1].Fits[0].Count = "it is held by somebody", 0
	data, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "answer")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	m := MIG{Helper: script(t, "/bin/cat >/dev/null; exec /bin/cat "+file+"\n"), Roots: r,
		Policy: configs.MIGPolicy{Timeout: 60, GPUs: []string{d.GPUs[0].UUID, d.GPUs[1].BusID, d.GPUs[2].UUID}}}
	setBar(t, r, Bar{BusID: d.GPUs[1].BusID, Xid: 79})
	whole := &Claim{Namespace: "ns", ID: "whole", Bundle: t.TempDir(), Devices: []Holding{{BusID: d.GPUs[2].BusID}}}
	if err := r.writeClaim(whole); err != nil {
		t.Fatal(err)
	}
	list, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "it is held by somebody; it is barred (Xid 79)", "it is held whole by ns/whole", "mig.gpus"} {
		g, room := list.GPUs[i], 7
		if want != "" {
			room = 0
		}
		if g.LeftAlone != want && !(i == 3 && strings.Contains(g.LeftAlone, want)) || g.Fits[0].Count != room {
			t.Errorf("GPU %d is left alone: %q, with room for %d; want %q", i, g.LeftAlone, g.Fits[0].Count, want)
		}
	}
}
