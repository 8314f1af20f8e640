// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// Many at once on two GPUs, with the latencies of a driver: each gets its own, and those that are
// refused are those for whom there is none.
func TestAcquireAtOnce(t *testing.T) {
	s := sliced(fakenvml.H200, 2)
	s.Rules = fakenvml.Latencies(10)
	r := newRig(t, s)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var made []wire.Slice
	refused := 0
	for i := range 16 {
		wg.Go(func() {
			out, failed, code := r.ask("acquire", r.request(r.me(string(rune('a'+i))), ask1g(1)))
			mu.Lock()
			defer mu.Unlock()
			if code == 0 {
				if a, err := wire.DecodeMIGAcquired(out, 1); err != nil {
					t.Error(err)
				} else {
					made = append(made, a.Slices...)
				}
			} else if refused++; failed == nil || failed.Code != "ERROR_INSUFFICIENT_RESOURCES" {
				t.Errorf("exit status %d, %v", code, failed)
			}
		})
	}
	wg.Wait()
	r.distinct(made, "at once")
	if len(made) != 14 || refused != 2 || len(r.records()) != 14 {
		t.Errorf("%d made, %d refused, %d records", len(made), refused, len(r.records()))
	}
}

// Who holds one GPU's lock is waited for until the deadline, and holds up no other GPU.
func TestGPUsDoNotWaitForEachOther(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	gpus := r.read().GPUs
	r.acquire(r.request(r.me("a"), ask1g(1))) // makes the lock of the first
	lock, err := os.OpenFile(filepath.Join(r.run, "gpu/mig", gpus[0].BusID, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	q := r.request(r.me("b"), ask1g(7))
	q.GPUs, q.TimeoutMS = []wire.GPURule{{BusID: gpus[1].BusID}}, 60_000
	if made := r.acquire(q); made[0].BusID != gpus[1].BusID {
		t.Errorf("made %+v", made)
	}
	q = r.request(r.me("c"), ask1g(1))
	q.TimeoutMS = 200
	if _, failed, _ := r.ask("acquire", q); failed == nil || failed.Code != wire.CodeLocked || !strings.Contains(failed.Message, gpus[0].BusID) {
		t.Errorf("the error is %v", failed)
	}
}

// An instance in use is kept as Zombie when the release's time is over, is nobody else's until
// its user has gone, and then the next who needs the room sweeps it.
func TestInUse(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	made := r.acquire(r.request(r.me("a"), wire.MIGAsk{Profile: "7g.141gb", Count: 1}))
	user := newPod(t, 1)
	s := r.read()
	s.Processes = []fakenvml.Process{{PID: user.PID, Bytes: 1 << 30, GI: made[0].GI, CI: made[0].CI}}
	r.write(s)
	q := r.request(r.me("a"))
	q.TimeoutMS = 300
	deeds, report := r.report("release", q)
	if !reflect.DeepEqual(deeds, []wire.Deed{wire.Zombie}) || !strings.Contains(report.Actions[0].Why, "In use") {
		t.Errorf("released: %+v", report)
	}
	if deeds, _ := r.report("sweep", r.request(nil)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Zombie}) {
		t.Errorf("swept while in use: %v", deeds)
	}
	if _, failed, _ := r.ask("acquire", r.request(r.me("b"), ask1g(1))); failed == nil || failed.Code != "ERROR_INSUFFICIENT_RESOURCES" || !strings.Contains(failed.Message, "ns/a") {
		t.Errorf("acquired while in use: %v", failed)
	}
	user.die()
	r.acquire(r.request(r.me("b"), ask1g(7)))
	r.report("release", r.request(r.me("b")))
	r.asAtFirst(first, "at the end")
}

// A user that goes while the release is under way is waited for, be the answer given by then.
func TestInUseForAMoment(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	made := r.acquire(r.request(r.me("a"), ask1g(1)))
	user := exec.Command("sleep", "0.3")
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	s := r.read()
	s.Processes = []fakenvml.Process{{PID: user.Process.Pid, Bytes: 1 << 30, GI: made[0].GI, CI: made[0].CI}}
	r.write(s)
	reaped := make(chan error)
	go func() { reaped <- user.Wait() }()
	if deeds, _ := r.report("release", r.request(r.me("a"))); len(deeds) != 1 || deeds[0] != wire.Destroyed && deeds[0] != wire.Zombie {
		t.Errorf("released: %v", deeds)
	}
	<-reaped
	r.asAtFirst(first, "at the end")
}

// After a boot, or another loading of the driver, records are of nothing; whoever has the place
// now is left alone, even with the ids that ours had.
func TestBootAndReload(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"boot":         func(r *rig) { r.boot = "another" },
		"reload":       func(r *rig) { r.driver.Load = "2" },
		"other driver": func(r *rig) { r.driver.Version = "580.1" },
	} {
		for _, word := range []string{"sweep", "acquire", "release"} {
			for _, kill := range []int{0, 3, 4, 8, 9, 13} { // within Intent, GICreated, Ready
				t.Run(name+"/"+word, func(t *testing.T) {
					r := newRig(t, sliced(fakenvml.H200, 1))
					first := r.read()
					kills["journal write"](r, kill)
					r.ask("acquire", r.request(r.me("a"), ask1g(1)))
					r.revive()
					change(r)
					for _, in := range r.read().GPUs[0].Instances {
						in.Compute = []fakenvml.Compute{{UUID: mig1}}
						first.GPUs[0].Instances = append(first.GPUs[0].Instances, in)
					}
					r.write(first)
					switch word {
					case "sweep":
						r.report("sweep", r.request(nil))
					case "acquire":
						r.acquire(r.request(r.me("b"), ask1g(1)))
						r.unharmed(first, word)
						r.report("release", r.request(r.me("b")))
					case "release":
						r.report("release", r.request(r.me("a")))
						r.report("sweep", r.request(nil))
					}
					r.asAtFirst(first, name)
				})
			}
		}
	}
}

// What the ledger took for gone, since boot or driver seem to be others, is still the owner's if
// the very UUID is there.
func TestIdentityMistaken(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	r.acquire(r.request(r.me("a"), ask1g(1)))
	r.driver.Load = "mistaken"
	if deeds, _ := r.report("sweep", r.request(nil)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Kept}) {
		t.Errorf("swept: %v", deeds)
	}
	if deeds, _ := r.report("release", r.request(r.me("a"))); !reflect.DeepEqual(deeds, []wire.Deed{wire.Destroyed}) {
		t.Errorf("released: %v", deeds)
	}
	r.asAtFirst(first, "at the end")
	// The same of a Zombie, whose compute instance goes first.
	made := r.acquire(r.request(r.me("b"), ask1g(1)))
	user := newPod(t, 1)
	s := r.read()
	s.Processes = []fakenvml.Process{{PID: user.PID, Bytes: 1 << 30, GI: made[0].GI, CI: made[0].CI}}
	r.write(s)
	q := r.request(r.me("b"))
	q.TimeoutMS = 300
	r.report("release", q)
	user.die()
	r.driver.Load = "mistaken-again"
	if deeds, _ := r.report("sweep", r.request(nil)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Destroyed}) {
		t.Errorf("swept: %v", deeds)
	}
	r.asAtFirst(first, "at the end")
}

// A torn record blocks nobody and costs nobody's instance; it goes when no instance can be its.
func TestTornRecord(t *testing.T) {
	for name, tear := range map[string]func([]byte) []byte{
		"cut off":    func(b []byte) []byte { return b[:len(b)/2] },
		"empty":      func([]byte) []byte { return nil },
		"a bit":      func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"by another": func([]byte) []byte { return []byte(`{"sha256":"","record":{}}`) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			first := r.read()
			r.acquire(r.request(r.gone("a"), ask1g(1)))
			path := r.records()[0]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tear(data), 0o600); err != nil {
				t.Fatal(err)
			}
			with := r.read()
			q := r.request(r.me("b"), ask1g(6))
			q.ShareForeign = false // it may be the torn one's: nobody is known to be a foreigner
			r.acquire(q)
			r.unharmed(with, "acquired beside it")
			deeds, report := r.report("sweep", r.request(nil))
			if len(deeds) != 7 || report.Actions[6].State != "torn" || report.Actions[6].Did != wire.Kept {
				t.Errorf("swept: %+v", report)
			}
			r.report("release", r.request(r.me("b")))
			r.write(first) // an administrator destroys it
			if deeds, _ := r.report("sweep", r.request(nil)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Forgotten}) {
				t.Errorf("swept: %v", deeds)
			}
			r.asAtFirst(first, "at the end")
		})
	}
}

// A foreigner who is faster keeps what he took, and we take another place, or say that there is none.
func TestThief(t *testing.T) {
	for times, want := range map[int]int{1: 1, 6: 1, 7: 0} {
		s := sliced(fakenvml.H200, 1)
		s.Rules = []fakenvml.Rule{{Verb: fakenvml.Thief, Symbol: "nvmlDeviceCreateGpuInstanceWithPlacement", Value: times, GPU: -1}}
		r := newRig(t, s)
		_, failed, code := r.ask("acquire", r.request(r.me("a"), ask1g(1)))
		if made := len(r.read().GPUs[0].Instances) - times; made != want || len(r.records()) != want || (code == 0) != (want == 1) {
			t.Errorf("%d thefts: exit status %d, %v; made %d, records %v", times, code, failed, made, r.records())
		}
	}
}
