// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"reflect"
	"strings"
	"testing"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// hang has every call to a GPU take longer than any patience, whoever ends first.
func hang(gpu int) fakenvml.Rule {
	return fakenvml.Rule{Verb: fakenvml.Delay, Symbol: fakenvml.AnyCall, Value: 600_000_000, GPU: gpu}
}

// A GPU that cannot be used, in whatever way, is no reason to have none of the others.
func TestOtherGPUs(t *testing.T) {
	const create = "nvmlDeviceCreateGpuInstanceWithPlacement"
	for name, rule := range map[string]fakenvml.Rule{
		"creation fails":              fault(create, unknown, 0),
		"creation lacks something":    fault(create, 23, 0),
		"creation needs a reset":      fault(create, 16, 0),
		"creation finds it in use":    fault(create, 19, 0),
		"compute instance fails":      fault("nvmlGpuInstanceCreateComputeInstance", 23, 0),
		"what was made is not told":   fault("nvmlComputeInstanceGetInfo_v2", unknown, 0),
		"profiles cannot be read":     fault("nvmlDeviceGetGpuInstanceProfileInfoV", unknown, 0),
		"instances cannot be listed":  fault("nvmlDeviceGetGpuInstances", lost, 0),
		"it has no name":              fault("nvmlDeviceGetUUID", unknown, 0),
		"it hangs":                    hang(0),
		"it hangs while one is made":  {Verb: fakenvml.Delay, Symbol: create, Value: 600_000_000, GPU: 0},
		"it hangs where it is opened": {Verb: fakenvml.Delay, Symbol: "nvmlDeviceGetHandleByIndex_v2", Value: 600_000_000, GPU: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, sliced(fakenvml.H200, 2))
			r.rules(rule)
			made := r.acquire(r.request(r.me("a"), ask1g(1)))
			if made[0].BusID != r.read().GPUs[1].BusID {
				t.Errorf("made %+v", made)
			}
			r.rules()
			r.report("release", r.request(r.me("a")))
			r.report("sweep", r.request(nil))
			r.asAtFirst(sliced(fakenvml.H200, 2), "at the end")
		})
	}
}

// What was made on one GPU is undone if another cannot give the rest.
func TestOtherGPUFails(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.rules(fault("nvmlDeviceCreateGpuInstanceWithPlacement", unknown, 1))
	_, failed, code := r.ask("acquire", r.request(r.me("a"), wire.MIGAsk{Profile: "7g.141gb", Count: 2}))
	if code != 1 || failed.Code != "ERROR_INSUFFICIENT_RESOURCES" || !strings.Contains(failed.Message, "ERROR_UNKNOWN") {
		t.Errorf("exit status %d, %v", code, failed)
	}
	r.asAtFirst(sliced(fakenvml.H200, 2), "refused")
}

// With no GPU left the error is theirs.
func TestNoGPUAnswers(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.rules(fault("nvmlDeviceGetGpuInstances", lost, 0), fault("nvmlDeviceGetGpuInstances", unknown, 1))
	_, failed, code := r.ask("acquire", r.request(r.me("a"), ask1g(1)))
	if code != 1 || failed.Code != "ERROR_GPU_IS_LOST" || failed.Symbol != "nvmlDeviceGetGpuInstances" ||
		!strings.Contains(failed.Message, "0000:4b:00.0") || !strings.Contains(failed.Message, "ERROR_UNKNOWN") {
		t.Errorf("exit status %d, %v", code, failed)
	}
}

// A GPU that nobody asked for is not even looked at, though a sweep would find something there.
func TestGPUsNotAskedFor(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.acquire(r.only(1, r.request(r.gone("dead"), ask1g(1))))
	r.rules(fakenvml.Rule{Verb: fakenvml.Exit, Symbol: fakenvml.AnyCall, Value: 77, GPU: 1}) // any call to it ends the helper
	r.acquire(r.only(0, r.request(r.me("a"), ask1g(1))))
	if _, failed, code := r.ask("acquire", r.only(0, r.request(r.me("b"), ask1g(7)))); code != 1 || failed.Code != "ERROR_INSUFFICIENT_RESOURCES" {
		t.Errorf("exit status %d, %v", code, failed)
	}
	r.report("release", r.request(r.me("a")))
	r.rules()
	r.report("sweep", r.request(nil))
	r.asAtFirst(sliced(fakenvml.H200, 2), "at the end")
}

// A GPU whose lock another has for long comes last: the others give what they have first.
func TestLockedGPU(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	l := r.holdLock(0)
	q := r.request(r.me("a"), ask1g(7))
	q.TimeoutMS = 1000 // a share of it is waited for the lock
	if made := r.acquire(q); made[0].BusID != r.read().GPUs[1].BusID {
		t.Errorf("made %+v", made)
	}
	// With none left it is waited for once more, until the end.
	q = r.request(r.me("b"), ask1g(1))
	q.TimeoutMS = 4000
	x := r.awaitLock(0, 2, "acquire", q)
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if out, failed, code := x.ends(); code != 0 || !strings.Contains(string(out), r.read().GPUs[0].BusID) {
		t.Errorf("exit status %d, %v", code, failed)
	}
}

// A lock holds up the sweep of no other GPU, of an acquire's as of an operator's.
func TestSweepBehindALock(t *testing.T) {
	for _, word := range []string{"acquire", "sweep"} {
		t.Run(word, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 2))
			r.acquire(r.only(0, r.request(r.me("alive"), ask1g(7))))
			r.acquire(r.only(1, r.request(r.gone("dead"), ask1g(7))))
			r.holdLock(0)
			q := r.request(r.me("b"))
			q.TimeoutMS = 2000
			if word == "acquire" {
				q.Asks = []wire.MIGAsk{ask1g(1)}
				r.acquire(q)
				return
			}
			deeds, report := r.report("sweep", q)
			want := append(slicesOf(wire.Unreached, 7), slicesOf(wire.Destroyed, 7)...)
			if !reflect.DeepEqual(deeds, want) || !strings.Contains(report.Actions[0].Why, "lock") {
				t.Errorf("swept: %+v", report)
			}
		})
	}
}

func slicesOf(d wire.Deed, n int) (out []wire.Deed) {
	for range n {
		out = append(out, d)
	}
	return out
}

// The records of a GPU that does not answer are told, with why; an error of one GPU hides nothing of
// what was done on another.
func TestSweepOfALostGPU(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.acquire(r.only(0, r.request(r.gone("a"), ask1g(1))))
	r.acquire(r.only(1, r.request(r.gone("b"), ask1g(1))))
	s := r.read()
	s.GPUs[0].Lost = true
	r.write(s)
	deeds, report := r.report("sweep", r.request(nil))
	if !reflect.DeepEqual(deeds, []wire.Deed{wire.Unreached, wire.Destroyed}) || report.Actions[0].Owner.Container != "a" || !strings.Contains(report.Actions[0].Why, "ERROR_GPU_IS_LOST") {
		t.Errorf("swept: %+v", report)
	}
	out, failed, code := r.ask("ls", r.request(nil))
	l, err := wire.DecodeMIGList(out)
	if err != nil || code != 0 || len(l.GPUs) != 2 {
		t.Fatalf("ls: exit status %d, %v, %v: %s", code, failed, err, out)
	}
	for _, g := range l.GPUs {
		if g.BusID == s.GPUs[0].BusID && (g.Error == nil || g.Error.Code != "ERROR_GPU_IS_LOST" || len(g.Instances) != 1 || g.Instances[0].Owner.Container != "a") {
			t.Errorf("the lost one is %+v", g)
		}
	}
}
