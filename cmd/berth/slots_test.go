// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"berth/gpu/nvml"
)

// slotsOf is what is printed of one GPU.
func slotsOf(g nvml.MIGGPU) string {
	var out bytes.Buffer
	slots(&out, &nvml.MIGList{GPUs: []nvml.MIGGPU{g}})
	return out.String()
}

// What there is room for is told, or why there is none.
func TestSlotsTellRoom(t *testing.T) {
	g := nvml.MIGGPU{BusID: "0000:3b:00.0", Mode: nvml.MIGEnabled, Slots: 8, Fits: []nvml.MIGFit{{Profile: "1g.18gb", Count: 2}, {Profile: "7g.141gb"}}}
	says(t, slotsOf(g), "[........]", "room for 2 x 1g.18gb\n")
	g.Leave("it is barred (Xid 79)")
	text := slotsOf(g)
	says(t, text, "left alone: it is barred (Xid 79)")
	if strings.Contains(text, "room") || strings.Contains(text, "full") {
		t.Errorf("of a GPU that is left alone it says:\n%s", text)
	}
	g.LeftAlone = ""
	says(t, slotsOf(g), "  full\n")
}

// Of a GPU that does not answer all is told that the ledger has of it.
func TestSlotsOfALostGPU(t *testing.T) {
	g := nvml.MIGGPU{BusID: "0000:3b:00.0", Error: &nvml.Error{Code: "ERROR_GPU_IS_LOST", Message: "GPU is lost"}, Torn: []string{"0123"}}
	g.Leave("it is held by a DRA driver")
	says(t, slotsOf(g), "GPU is lost", "the record 0123 cannot be read", "left alone: it is held by a DRA driver")
}
