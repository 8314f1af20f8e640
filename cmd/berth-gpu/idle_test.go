// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// keeping is a release of what an owner has that keeps it for an hour. The helper watches over it
// for that long; who asks for the answer alone kills it then.
func (r *rig) keep(o *wire.Owner) {
	r.Helper()
	q := r.request(o)
	q.KeepIdleMS, q.TimeoutMS = time.Hour.Milliseconds(), 10_000 // which is less: it leaves it to a sweep
	if deeds, report := r.report("release", q); len(deeds) == 0 || deeds[0] != wire.Idled {
		r.Fatalf("released: %+v", report)
	}
}

// What is kept idle goes to the next that asks for the same, with a compute instance of its own,
// and to nobody else.
func TestTakeOver(t *testing.T) {
	for _, c := range []struct {
		name  string
		asks  []wire.MIGAsk
		taken int // how many of the instances are the old ones
	}{
		{"the same", []wire.MIGAsk{{Profile: "3g.71gb", Count: 1}, ask1g(2)}, 3},
		{"one of them", []wire.MIGAsk{ask1g(1)}, 1},
		{"by memory", []wire.MIGAsk{{Memory: 10 << 30, Count: 1}, {Memory: 60 << 30, Count: 1}}, 2},
		{"more", []wire.MIGAsk{ask1g(3)}, 2},
		{"another", []wire.MIGAsk{{Profile: "2g.35gb", Count: 1}}, 0},
		{"more memory would do", []wire.MIGAsk{{Memory: 30 << 30, Count: 1}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 2))
			first := r.read()
			before := r.acquire(r.request(r.me("a"), wire.MIGAsk{Profile: "3g.71gb", Count: 1}, ask1g(2)))
			r.keep(r.me("a"))
			for _, g := range r.read().GPUs {
				for _, in := range g.Instances {
					if len(in.Compute) > 0 {
						t.Fatalf("kept with a compute instance: %+v", in)
					}
				}
			}
			made := r.acquire(r.request(r.me("b"), c.asks...))
			r.distinct(made, c.name)
			taken := 0
			for _, s := range made {
				for _, old := range before {
					if s.UUID == old.UUID {
						t.Errorf("%+v is the MIG device of before", s)
					}
					if s.ID == old.ID {
						taken++
					}
				}
			}
			if taken != c.taken {
				t.Errorf("%d of the old ones are in %+v, want %d", taken, made, c.taken)
			}
			i := 0
			for _, a := range c.asks {
				for range a.Count {
					if a.Profile != "" && made[i].Profile != a.Profile {
						t.Errorf("made in another order than asked: %+v", made)
					}
					i++
				}
			}
			if deeds, _ := r.report("sweep", r.request(nil)); len(deeds) != len(made)+3-taken {
				t.Errorf("swept: %v", deeds)
			}
			r.report("release", r.request(r.me("b")))
			q := r.request(nil)
			q.GiveUpIdle = true
			r.report("sweep", q)
			r.asAtFirst(first, "at the end")
		})
	}
}

// What is kept idle is in nobody's way: it is given up before anybody is told that there is no
// room, and no more of it than is needed.
func TestIdleMakesRoom(t *testing.T) {
	for _, c := range []struct {
		name string
		idle []wire.MIGAsk
		asks []wire.MIGAsk
		left int // idle ones
	}{
		{"there is room beside it", []wire.MIGAsk{ask1g(2)}, []wire.MIGAsk{{Profile: "3g.71gb", Count: 1}}, 2},
		{"a half is needed", []wire.MIGAsk{ask1g(7)}, []wire.MIGAsk{{Profile: "4g.71gb", Count: 1}}, 3},
		{"the whole is needed", []wire.MIGAsk{ask1g(7)}, []wire.MIGAsk{{Profile: "7g.141gb", Count: 1}}, 0},
		{"the count is in the way", []wire.MIGAsk{{Profile: "1g.18gb+me", Count: 1}}, []wire.MIGAsk{{Profile: "1g.18gb+me", Count: 1}, ask1g(6)}, 0},
		{"some are taken over, others given up", []wire.MIGAsk{ask1g(7)}, []wire.MIGAsk{{Profile: "3g.71gb", Count: 1}, ask1g(2)}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			r.acquire(r.request(r.me("a"), c.idle...))
			r.keep(r.me("a"))
			made := r.acquire(r.request(r.me("b"), c.asks...))
			r.distinct(made, c.name)
			if left := len(r.read().GPUs[0].Instances) - len(made); left > c.left || c.left == 0 && left != 0 {
				t.Errorf("%d are left idle, want %d", left, c.left)
			}
			_, failed, _ := r.ask("acquire", r.request(r.me("c"), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
			if failed == nil || !strings.Contains(failed.Message, "of ns/b") {
				t.Errorf("the error is %v", failed)
			}
		})
	}
}

// A kept slice is destroyed when its time is over by the very release that kept it, and that ends
// early when somebody takes it over.
func TestIdleEnds(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	r.acquire(r.request(r.me("a"), ask1g(2)))
	q := r.request(r.me("a"))
	q.KeepIdleMS = 100
	if deeds, report := r.report("release", q); !reflect.DeepEqual(deeds, []wire.Deed{wire.Idled, wire.Idled}) {
		t.Errorf("released: %+v", report)
	}
	r.asAtFirst(first, "when the release has ended")

	r.acquire(r.request(r.me("a"), ask1g(1)))
	q.KeepIdleMS, q.TimeoutMS = time.Hour.Milliseconds(), 2*time.Hour.Milliseconds()
	ended := make(chan bool)
	go func() { // it would end with the test's patience
		defer close(ended)
		r.report("release", q)
	}()
	r.awaitState(ledger.Idle)
	r.acquire(r.request(r.me("b"), ask1g(1)))
	<-ended
	r.report("release", r.request(r.me("b")))
	r.asAtFirst(first, "at the end")
}

// awaitState waits until a record has it.
func (r *rig) awaitState(s ledger.State) {
	r.Helper()
	w, err := ledger.NewWatch(r.run)
	if err != nil {
		r.Fatal(err)
	}
	defer w.Close()
	for {
		records, _, err := ledger.Records(r.run)
		if err != nil {
			r.Fatal(err)
		}
		if slices.ContainsFunc(records, func(rec *ledger.Record) bool { return rec.State == s }) {
			return
		}
		if err := w.Wait(time.Now().Add(timeout)); err != nil {
			r.Fatal(err)
		}
	}
}

// In an instance that is kept idle somebody made a compute instance: it is his, and stays.
func TestIdleThenAdministrator(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	r.acquire(r.request(r.me("a"), ask1g(1)))
	r.keep(r.me("a"))
	s := r.read()
	s.GPUs[0].Instances[0].Compute = []fakenvml.Compute{{UUID: mig1}}
	r.write(s)
	made := r.acquire(r.request(r.me("b"), ask1g(6)))
	q := r.request(nil)
	q.GiveUpIdle = true
	r.report("sweep", q)
	r.unharmed(s, "after a sweep")
	r.distinct(made, "beside it")
}

// A GPU that is somebody else's by now has nothing taken over.
func TestIdleLeftAlone(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	made := r.acquire(r.request(r.me("a"), ask1g(1)))
	r.keep(r.me("a"))
	q := r.request(r.me("b"), ask1g(1))
	for _, g := range r.read().GPUs {
		if g.BusID != made[0].BusID {
			q.GPUs = []wire.GPURule{{BusID: g.BusID}}
		}
	}
	if other := r.acquire(q); other[0].BusID == made[0].BusID {
		t.Errorf("made %+v", other)
	}
}

// BenchmarkNext is the time from the deletion of a container with a slice to the readiness of the
// next with such a one, and its parts, at the latencies of hardware (fakenvml.Latencies).
func BenchmarkNext(b *testing.B) {
	for _, keep := range []time.Duration{0, time.Hour} {
		name := "destroyed"
		if keep > 0 {
			name = "kept"
		}
		b.Run(name, func(b *testing.B) {
			s := sliced(fakenvml.H200, 1)
			s.Latency = fakenvml.Hardware
			r := newRig(b, s)
			r.acquire(r.request(r.me("0"), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
			var release, acquire time.Duration
			for n := 0; b.Loop(); n++ {
				began := time.Now()
				q := r.request(r.me(fmt.Sprint(n)))
				q.KeepIdleMS, q.TimeoutMS = keep.Milliseconds(), 10_000
				r.report("release", q)
				released := time.Now()
				r.acquire(r.request(r.me(fmt.Sprint(n+1)), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
				release, acquire = release+released.Sub(began), acquire+time.Since(released)
			}
			b.ReportMetric(float64(release.Milliseconds())/float64(b.N), "release-ms")
			b.ReportMetric(float64(acquire.Milliseconds())/float64(b.N), "acquire-ms")
		})
	}
}

// A GPU that is locked has an idle slice, another is empty: nobody waits for the lock.
func TestIdleBehindALock(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	gpus := r.read().GPUs
	r.acquire(r.request(r.me("a"), ask1g(1)))
	r.keep(r.me("a"))
	r.holdLock(0)
	q := r.request(r.me("b"), ask1g(1))
	const wait = 15 * time.Second // for a lock, while there is something else to do
	q.TimeoutMS = 4 * wait.Milliseconds()
	began := time.Now()
	if made := r.acquire(q); made[0].BusID != gpus[1].BusID {
		t.Errorf("made %+v", made)
	}
	if took := time.Since(began); took > wait/2 {
		t.Errorf("it took %v", took)
	}
}

// Where there is no other GPU the lock is waited for, and then the idle slice is taken over.
func TestIdleBehindTheOnlyLock(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	whole := wire.MIGAsk{Profile: "7g.141gb", Count: 1}
	before := r.acquire(r.request(r.me("a"), whole))
	r.keep(r.me("a"))
	l := r.holdLock(0)
	x := r.awaitLock(0, 2, "acquire", r.request(r.me("b"), whole))
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	out, failed, code := x.ends()
	if code != 0 {
		t.Fatal(failed)
	}
	if a, err := wire.DecodeMIGAcquired(out, 1); err != nil || a.Slices[0].ID != before[0].ID {
		t.Errorf("acquired %s, %v; kept was %+v", out, err, before)
	}
}

// A container of another namespace of containerd is given no slice that was kept, be there another GPU or not:
// that one is given up.
func TestIdleOfAnotherNamespace(t *testing.T) {
	for _, n := range []int{1, 2} {
		r := newRig(t, sliced(fakenvml.H200, n))
		whole := wire.MIGAsk{Profile: "7g.141gb", Count: 1}
		kept := r.acquire(r.request(r.me("a"), whole))
		r.keep(r.me("a"))
		other := r.me("b")
		other.Namespace = "other"
		made := r.acquire(r.request(other, whole))
		if made[0].ID == kept[0].ID {
			t.Errorf("%d GPUs: ns/a had %+v, and other/b was given it", n, kept[0])
		}
		if left := len(instances(r.read())); left != n {
			t.Errorf("%d GPUs: there are %d slices", n, left)
		}
	}
}
