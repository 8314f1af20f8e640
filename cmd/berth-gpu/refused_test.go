// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// Each refusal is counted once by profile; what containers invent has one count for all.
func TestRefusalsAreCounted(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	r.acquire(r.request(r.me("a"), ask1g(7)))
	nowhere := r.request(r.me("d"), ask1g(1))
	nowhere.GPUs = []wire.GPURule{{BusID: "0000:ff:00.0"}}
	for _, q := range []*wire.MIGRequest{
		r.request(r.me("b"), ask1g(2), ask1g(1)), r.request(r.me("b"), ask1g(1), wire.MIGAsk{Profile: "3g.71gb", Count: 1}),
		r.request(r.me("b"), wire.MIGAsk{Memory: 1 << 30, Count: 1}), r.request(r.me("b"), wire.MIGAsk{Profile: "9g.1gb", Count: 1}),
		r.request(r.me("b"), wire.MIGAsk{Profile: "9g.2gb", Count: 1}), nowhere,
	} {
		if _, _, code := r.ask("acquire", q); code != 1 {
			t.Errorf("%+v: exit status %d", q.Asks, code)
		}
	}
	owner := filepath.Join(ledger.Root(r.run), r.read().GPUs[0].BusID, "owner")
	if err := os.WriteFile(owner, []byte("a DRA driver"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, code := r.ask("acquire", r.request(r.me("d"), ask1g(1))); code != 1 {
		t.Errorf("held: exit status %d", code)
	}
	got := map[string]uint64{}
	all, err := ledger.Refusals(r.run)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		got[c.Profile+" "+c.Reason] = c.Count
	}
	want := map[string]uint64{"1g.18gb room": 2, "1g.18gb held": 1, "3g.71gb room": 1, "by memory room": 1, "other request": 2, "other driver": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
