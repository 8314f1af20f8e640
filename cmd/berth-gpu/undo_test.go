// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"testing"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// The second of two instances fails: the first is undone, on the GPU that is passed over, and both are made
// on the other.
func TestSecondFails(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.rules(stopAt(createGI, 0))
	x := r.begin("acquire", r.request(r.me("a"), ask1g(2)))
	x.mustStop()
	x.goesOn()
	x.mustStop()
	if n := len(r.read().GPUs[0].Instances); n != 1 {
		t.Fatalf("%d instances are there before the second", n)
	}
	r.rules(fault(createGI, unknown, 0))
	x.goesOn()
	out, failed, code := x.ends()
	if code != 0 {
		t.Fatalf("GPU 1 is healthy and empty: %v", failed)
	}
	a, err := wire.DecodeMIGAcquired(out, 2)
	if err != nil {
		t.Fatal(err)
	}
	r.distinct(a.Slices, "on the other")
	if after := r.read().GPUs; len(after[0].Instances) != 0 || len(after[1].Instances) != 2 || len(r.records()) != 2 {
		t.Errorf("left %v, records %v", instances(r.read()), r.records())
	}
}

// The same of what was taken over on a GPU before that failed.
func TestSecondTakeOverFails(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	r.acquire(r.request(r.me("a"), ask1g(2)))
	r.keep(r.me("a"))
	r.rules(stopAt(createCI, -1))
	x := r.begin("acquire", r.request(r.me("b"), ask1g(2)))
	x.mustStop()
	x.goesOn()
	x.mustStop()
	r.rules(fault(createCI, unknown, -1))
	x.goesOn()
	if _, failed, code := x.ends(); code != 1 {
		t.Errorf("exit status %d, %v", code, failed)
	}
	r.asAtFirst(first, "failed")
}
