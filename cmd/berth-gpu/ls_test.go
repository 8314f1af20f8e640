// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"testing"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// ls is what ls says of the GPUs.
func (r *rig) ls(q *wire.MIGRequest) []wire.MIGGPU {
	r.Helper()
	out, failed, code := r.ask("ls", q)
	if code != 0 {
		r.Fatalf("exit status %d, %v", code, failed)
	}
	l, err := wire.DecodeMIGList(out)
	if err != nil {
		r.Fatal(err)
	}
	return l.GPUs
}

// Of GPUs that are lost the records tell which they are, and whether the owners of what is on them live.
func TestListOfLostGPUs(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.acquire(r.request(r.me("a"), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
	r.acquire(r.request(r.gone("b"), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
	s := r.read()
	s.GPUs[0].Lost, s.GPUs[1].Lost = true, true
	r.write(s)
	life := map[string]string{}
	for _, g := range r.ls(r.request(nil)) {
		for _, in := range g.Instances {
			life[g.UUID] += in.Owner.Container + " " + in.Life
		}
	}
	if len(life) != 2 || life[s.GPUs[0].UUID] != "a "+string(ledger.Served) || life[s.GPUs[1].UUID] != "b "+string(ledger.Gone) {
		t.Errorf("told are %q", life)
	}
}
