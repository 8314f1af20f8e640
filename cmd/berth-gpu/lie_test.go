// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"slices"
	"strconv"
	"testing"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// codes are what a driver may say of something that it has done: nvmlReturn_t. An answer gets lost
// (UNKNOWN, TIMEOUT), or what was done cannot be described any more.
var codes = []int{999, 10, 2, 6, 19, 15}

// lie has the driver do what it is asked to, and deny it.
func (r *rig) lie(symbol string, code int) {
	s := r.read()
	s.Rules = append(s.Rules, fakenvml.Rule{Verb: fakenvml.Lie, Symbol: symbol, Value: code, GPU: -1})
	r.write(s)
}

func (r *rig) honest() {
	s := r.read()
	s.Rules = slices.DeleteFunc(s.Rules, func(rule fakenvml.Rule) bool { return rule.Verb == fakenvml.Lie })
	r.write(s)
}

// What was made though the driver denied it is taken back. That a GPU instance was refused, because
// of an argument or since the GPU is in use, is believed.
func TestMadeAndDenied(t *testing.T) {
	for symbol, codes := range map[string][]int{
		"nvmlDeviceCreateGpuInstanceWithPlacement": {999, 10, 6, 15},
		"nvmlGpuInstanceCreateComputeInstance":     codes,
	} {
		for _, code := range codes {
			t.Run(symbol+"/"+strconv.Itoa(code), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, shared())
				r.lie(symbol, code)
				if _, failed, code := r.ask("acquire", r.request(r.me("a"), ask1g(2))); failed == nil {
					t.Errorf("exit status %d", code)
				}
				r.honest()
				r.unharmed(shared(), "after the acquire")
				r.report("release", r.request(r.me("a")))
				r.report("sweep", r.request(nil))
				r.asAtFirst(shared(), "at the end")
			})
		}
	}
}

// What was destroyed though the driver denied it is no longer on record once it is seen to be gone,
// and what has its place by then is left alone.
func TestDestroyedAndDenied(t *testing.T) {
	for _, symbol := range []string{"nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy"} {
		for _, code := range codes {
			t.Run(symbol+"/"+strconv.Itoa(code), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, shared())
				r.acquire(r.request(r.gone("a"), ask1g(2)))
				r.lie(symbol, code)
				q := r.request(r.gone("a"))
				q.TimeoutMS = 100 // it may try again until then
				if _, failed, code := r.ask("release", q); code != 0 && failed == nil {
					t.Errorf("exit status %d", code)
				}
				r.honest()
				r.unharmed(shared(), "after the release")
				made := r.acquire(r.request(r.me("b"), ask1g(4)))
				r.distinct(made, "the next one's")
				r.report("sweep", r.request(nil))
				r.distinct(made, "the next one's, swept")
				r.report("release", r.request(r.me("b")))
				r.report("sweep", r.request(nil))
				r.asAtFirst(shared(), "at the end")
			})
		}
	}
}

// A mode that was changed though the driver denied it is not left half changed.
func TestModeDenied(t *testing.T) {
	for _, code := range codes {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			first := fakenvml.Machine(fakenvml.H200, 1)
			r := newRig(t, first)
			r.lie("nvmlDeviceSetMigMode", code)
			q := r.request(r.me("a"), wire.MIGAsk{Profile: "1g.18gb", Count: 1})
			allowMode(r, q)
			_, failed, _ := r.ask("acquire", q)
			r.honest()
			if s := r.read(); s.GPUs[0].MIG != s.GPUs[0].Pending {
				t.Errorf("MIG mode is %v, %v is pending; the acquire says %v", s.GPUs[0].MIG, s.GPUs[0].Pending, failed)
			}
			r.report("release", r.request(r.me("a")))
			r.report("sweep", r.request(nil))
			r.asAtFirst(first, "at the end")
		})
	}
}
