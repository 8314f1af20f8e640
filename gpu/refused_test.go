// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"slices"
	"testing"

	"berth/gpu/ledger"
	"berth/test/fakedriver"
)

// A container that is refused since no GPU can be used is counted, without the names that it invents.
func TestUnusableIsCounted(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	setBar(t, r, Bar{BusID: d.GPUs[0].BusID, Xid: 79})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: MIG{Roots: r}}
	if err := create(t, h, bundle(t, slicing("9g.1gb,9g.2gb,>=1GiB")), "c"); err == nil {
		t.Fatal("a barred GPU is sliced")
	}
	got, err := ledger.Refusals(r.Run)
	if want := []ledger.Refusal{{Profile: "by memory", Reason: "held", Count: 1}, {Profile: "other", Reason: "held", Count: 1}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("counted %+v, %v, want %+v", got, err, want)
	}
}
