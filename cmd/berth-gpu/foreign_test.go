// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"fmt"
	"reflect"
	"testing"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// states has a record in each of its states, by the changes of the ledger after which its helper dies.
var states = map[string]int{"Intent": 5, "GICreated": 10, "CIIntent": 15, "Ready": 0}

// An administrator who destroys what is ours and makes an instance of his own gets the same place and
// id. What he made is his, as soon as it can be told from ours.
func TestForeignerInOurPlace(t *testing.T) {
	for state, step := range states {
		for _, compute := range []string{"", mig1} {
			t.Run(state+"/"+compute, func(t *testing.T) {
				r := newRig(t, sliced(fakenvml.H200, 1))
				if step > 0 {
					kills["journal write"](r, step)
				}
				r.ask("acquire", r.request(r.gone("a"), ask1g(1)))
				r.revive()
				if left := r.ledger(0); len(left) != 1 || string(left[0].State) != state {
					t.Fatalf("left %+v", left)
				}
				s := r.read()
				in := fakenvml.Instance{ID: 7, Profile: 19, Start: 6}
				if len(s.GPUs[0].Instances) > 0 {
					in = s.GPUs[0].Instances[0]
				}
				if in.Compute = nil; compute != "" {
					in.Compute = []fakenvml.Compute{{UUID: compute}}
				}
				s.GPUs[0].Instances = []fakenvml.Instance{in}
				r.write(s)
				r.report("sweep", r.request(nil))
				// Empty he is not told from ours but by the UUID that ours had; with a compute instance in it
				// he is not told in the moment in which ours was to have its own.
				told := compute == "" && state == "Ready" || compute != "" && state != "CIIntent"
				if left := len(r.read().GPUs[0].Instances) == 1; left != told || len(r.records()) != 0 {
					t.Errorf("left alone: %v, want %v; records %v", left, told, r.records())
				}
			})
		}
	}
}

// What was judged ours is looked at again just before it is destroyed.
func TestForeignerBeforeTheDestruction(t *testing.T) {
	for symbol, foreign := range map[string]func(*fakenvml.Instance){
		"nvmlGpuInstanceDestroy":     func(in *fakenvml.Instance) { in.Compute = []fakenvml.Compute{{UUID: mig1}} },
		"nvmlComputeInstanceDestroy": func(in *fakenvml.Instance) { in.Start, in.Compute = 0, nil },
	} {
		t.Run(symbol, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			r.acquire(r.request(r.me("a"), ask1g(2)))
			r.rules(stopAt(symbol, -1))
			x := r.begin("release", r.request(r.me("a")))
			x.mustStop()
			// It is about to destroy one; the other becomes an administrator's.
			first, s := stateWithout(r.read()), r.read()
			s.Rules = nil
			record := x.destroying()
			for i := range s.GPUs[0].Instances {
				if s.GPUs[0].Instances[i].Start != record.Start {
					foreign(&s.GPUs[0].Instances[i])
					first.GPUs[0].Instances = append(first.GPUs[0].Instances, s.GPUs[0].Instances[i])
				}
			}
			r.write(s)
			x.goesOn()
			if _, failed, code := x.ends(); code != 0 {
				t.Errorf("exit status %d, %v", code, failed)
			}
			r.asAtFirst(first, "released")
		})
	}
}

// A half that another took meanwhile is not destroyed with the other half.
func TestForeignerBetweenTheHalves(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	r.acquire(r.request(r.me("a"), ask1g(1)))
	r.rules(stopAt("nvmlComputeInstanceDestroy", -1))
	x := r.begin("release", r.request(r.me("a")))
	x.mustStop()
	s := r.read()
	s.Rules = nil
	s.GPUs[0].Instances[0].Compute = []fakenvml.Compute{{ID: 1, UUID: mig1}}
	r.write(s)
	x.goesOn()
	x.ends()
	r.asAtFirst(s, "released")
}

func stateWithout(s fakenvml.State) fakenvml.State {
	s.Rules = nil
	s.GPUs[0].Instances = nil
	return s
}

// destroying is the place of the one record that a stopped release has begun with.
func (x *transaction) destroying() wire.Place {
	x.Helper()
	for _, r := range x.ledger(0) {
		if r.State == "Releasing" {
			return r.Place
		}
	}
	x.Fatal("no record is Releasing")
	return wire.Place{}
}

// An answer that may mean that an instance has gone is no proof: it is, and stays on record.
func TestGoneIsNotBelieved(t *testing.T) {
	for _, symbol := range []string{"nvmlGpuInstanceDestroy", "nvmlComputeInstanceDestroy", "nvmlGpuInstanceGetComputeInstances",
		"nvmlComputeInstanceGetInfo_v2", "nvmlGpuInstanceGetInfo", "nvmlGpuInstanceGetComputeInstanceProfileInfo",
		"nvmlDeviceGetGpuInstanceProfileInfoV", "nvmlDeviceGetGpuInstances"} {
		for _, value := range []int{2, notSupported, 6} {
			t.Run(fmt.Sprint(symbol, "/", value), func(t *testing.T) {
				r := newRig(t, sliced(fakenvml.H200, 1))
				first := r.read()
				r.acquire(r.request(r.me("a"), ask1g(1)))
				r.rules(fault(symbol, value, -1))
				q := r.request(r.me("a"))
				q.TimeoutMS = 100
				r.ask("release", q)
				r.ask("sweep", q)
				if len(instances(r.read())) != 1 || len(r.records()) != 1 {
					t.Errorf("there are %v, on record %v", instances(r.read()), r.records())
				}
				r.rules()
				r.report("release", r.request(r.me("a")))
				r.asAtFirst(first, "without the fault")
			})
		}
	}
}

// What really goes while it is looked for has gone.
func TestGoneMeanwhile(t *testing.T) {
	for _, symbol := range []string{"nvmlGpuInstanceDestroy", "nvmlComputeInstanceDestroy", "nvmlGpuInstanceGetComputeInstances", "nvmlGpuInstanceGetInfo", "nvmlComputeInstanceGetInfo_v2"} {
		t.Run(symbol, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			first := r.read()
			r.acquire(r.request(r.me("a"), ask1g(1)))
			r.rules(stopAt(symbol, -1))
			x := r.begin("release", r.request(r.me("a")))
			x.mustStop()
			r.write(first) // an administrator destroys it
			x.goesOn()
			if _, failed, code := x.ends(); code != 0 {
				t.Errorf("exit status %d, %v", code, failed)
			}
			r.asAtFirst(first, "released")
		})
	}
}

// A reading of the profiles that failed half way is not taken for whole by the next of the transaction:
// instances are listed by them, and one that is not listed is taken for gone.
func TestHalfReadProfiles(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	made := r.acquire(r.only(0, r.request(r.me("large"), wire.MIGAsk{Profile: "3g.71gb", Count: 1})))
	r.acquire(r.only(1, r.request(r.me("full"), wire.MIGAsk{Profile: "7g.141gb", Count: 1})))
	const symbol = "nvmlDeviceGetGpuInstancePossiblePlacements_v2"
	r.rules(stopAt(symbol, 0))
	x := r.begin("acquire", r.request(r.me("next"), ask1g(1)))
	x.mustStop()
	x.goesOn()
	x.mustStop()
	r.rules(fault(symbol, unknown, 0)) // of the second profile's
	x.goesOn()
	x.ends()
	r.rules()
	if deeds, _ := r.report("sweep", r.request(nil)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Kept, wire.Kept}) {
		t.Errorf("the record of %+v: %v", made[0], deeds)
	}
}
