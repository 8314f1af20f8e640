// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

const createGI, createCI = "nvmlDeviceCreateGpuInstanceWithPlacement", "nvmlGpuInstanceCreateComputeInstance"

// What was chosen without the lock is judged anew under it: whether the GPU may be used.
func TestHeldBeforeTheLock(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	l := r.holdLock(0)
	x := r.awaitLock(0, 1, "acquire", r.request(r.me("a"), ask1g(1)))
	owner := filepath.Join(ledger.Root(r.run), r.read().GPUs[0].BusID, "owner")
	if err := os.WriteFile(owner, []byte("a DRA driver"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if _, failed, code := x.ends(); code != 1 || failed.Code != wire.CodeHeld {
		t.Errorf("exit status %d, %v", code, failed)
	}
	r.asAtFirst(sliced(fakenvml.H200, 1), "refused")
}

// And where on it: the dead were swept, and their places are better.
func TestChosenAgainUnderTheLock(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.acquire(r.request(r.gone("dead"), ask1g(1)))
	if made := r.acquire(r.request(r.me("a"), ask1g(1))); made[0].Place != first[0].Place {
		t.Errorf("made at %+v, the best was %+v", made[0].Place, first[0].Place)
	}
}

// A refusal of the driver may be no refusal: an instance that is there after an error is undone.
func TestMadeInSpiteOfAnError(t *testing.T) {
	for name, value := range map[string]int{"unknown": unknown, "timeout": 10} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			r.rules(stopAt(createGI, -1))
			x := r.begin("acquire", r.request(r.me("a"), ask1g(1)))
			x.mustStop()
			s := r.read()
			s.Rules = []fakenvml.Rule{fault(createGI, value, -1)}
			s.GPUs[0].Instances = []fakenvml.Instance{{ID: 7, Profile: 19, Start: r.ledger(0)[0].Place.Start}}
			r.write(s)
			x.goesOn()
			if _, failed, code := x.ends(); code != 1 || failed.Symbol != createGI {
				t.Errorf("exit status %d, %v", code, failed)
			}
			r.asAtFirst(sliced(fakenvml.H200, 1), "failed")
		})
	}
}

// What fails after the GPU instance is there is undone at once, not by the next sweep.
func TestUndoneAtOnce(t *testing.T) {
	for _, value := range []int{unknown, 23, 19} {
		r := newRig(t, sliced(fakenvml.H200, 1))
		r.rules(fault(createCI, value, -1))
		if _, failed, code := r.ask("acquire", r.request(r.me("a"), ask1g(1))); code != 1 || failed.Symbol != createCI {
			t.Errorf("exit status %d, %v", code, failed)
		}
		r.asAtFirst(sliced(fakenvml.H200, 1), "failed")
	}
}

// What the driver made is what was asked for, or it is an error.
func TestMadeElsewhere(t *testing.T) {
	for name, change := range map[string]func(*fakenvml.Instance){
		"place":   func(in *fakenvml.Instance) { in.Start-- },
		"profile": func(in *fakenvml.Instance) { in.Profile = 20 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			r.rules(stopAt("nvmlGpuInstanceGetInfo", -1))
			x := r.begin("acquire", r.request(r.me("a"), ask1g(1)))
			x.mustStop() // there is none before that is asked
			s := r.read()
			s.Rules = nil
			change(&s.GPUs[0].Instances[0])
			r.write(s)
			x.goesOn()
			if _, failed, code := x.ends(); code != 1 || !strings.Contains(failed.Message, "the driver made") {
				t.Errorf("exit status %d, %v", code, failed)
			}
			if len(r.records()) != 0 {
				t.Errorf("on record %v", r.records())
			}
		})
	}
}

// Nothing is done that is not on record before: where that cannot be written, the next call is not even
// begun.
func TestNothingBeforeItIsOnRecord(t *testing.T) {
	const look = "nvmlGpuInstanceGetComputeInstanceProfileInfo"
	for _, c := range []struct{ at, not string }{
		{"nvmlDeviceGetGpuInstances", createGI},
		{"nvmlGpuInstanceGetInfo", look},
		{look, createCI},
	} {
		t.Run(c.not, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			dir := filepath.Join(ledger.Root(r.run), r.read().GPUs[0].BusID)
			if err := r.holdLock(0).Unlock(); err != nil { // which makes the directory
				t.Fatal(err)
			}
			r.rules(stopAt(c.at, -1))
			x := r.begin("acquire", r.request(r.me("a"), ask1g(1)))
			x.mustStop()
			for c.not == createGI && !r.locked() { // it looks before it has the lock too
				x.goesOn()
				x.mustStop()
			}
			uncover := cover(t, dir)
			r.rules(stopAt(c.not, -1))
			x.goesOn()
			if x.stops() {
				t.Errorf("%s is called", c.not)
				r.rules()
				x.goesOn()
			}
			if _, failed, code := x.ends(); code != 1 || !strings.Contains(failed.Message, "read-only") {
				t.Errorf("exit status %d, %v", code, failed)
			}
			uncover()
			r.rules()
			r.report("release", r.request(r.me("a")))
			r.report("sweep", r.request(nil))
			r.asAtFirst(sliced(fakenvml.H200, 1), "swept")
		})
	}
}

// cover has a directory read-only, and with nothing in it, until it is uncovered.
func cover(t *testing.T, dir string) func() {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "size=4k"); err != nil {
		t.Fatal(err)
	}
	uncover := sync.OnceFunc(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(uncover)
	return uncover
}

// The compute instance is as large as what it is in.
func TestWholeComputeInstance(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	r.acquire(r.request(r.me("a"), wire.MIGAsk{Profile: "3g.71gb", Count: 1}, wire.MIGAsk{Profile: "2g.35gb", Count: 1}))
	profiles := map[int]int{9: 2, 14: 1} // 3 and 2 slices
	for _, in := range r.read().GPUs[0].Instances {
		if len(in.Compute) != 1 || in.Compute[0].Profile != profiles[in.Profile] {
			t.Errorf("%+v", in)
		}
	}
}

// While somebody looks without a lock, others make and destroy: what is theirs is never a foreigner's.
func TestLookedAtMeanwhile(t *testing.T) {
	for name, meanwhile := range map[string]func(*rig){
		"made":      func(r *rig) { r.acquire(r.request(r.me("b"), ask1g(1))) },
		"destroyed": func(r *rig) { r.report("release", r.request(r.me("there"))) },
	} {
		for _, symbol := range []string{"nvmlDeviceGetGpuInstances", "nvmlGpuInstanceGetComputeInstances"} {
			t.Run(name+"/"+symbol, func(t *testing.T) {
				t.Parallel()
				for n, stopped := 1, true; stopped; n++ {
					r := newRig(t, sliced(fakenvml.H200, 1))
					r.acquire(r.request(r.me("there"), ask1g(1)))
					r.acquire(r.request(r.me("stays"), ask1g(1)))
					r.rules(stopAt(symbol, -1))
					q := r.request(r.me("a"), ask1g(1))
					q.ShareForeign = false
					x := r.begin("acquire", q)
					for i := 0; i < n && stopped; i++ {
						if stopped = x.stops(); stopped && i < n-1 {
							x.goesOn()
						}
					}
					if !stopped {
						break
					}
					r.rules()
					if !r.locked() { // else nobody can do anything meanwhile
						meanwhile(r)
					}
					x.goesOn()
					if _, failed, code := x.ends(); code != 0 {
						t.Errorf("at call %d: exit status %d, %v", n, code, failed)
					}
				}
			})
		}
	}
}

// locked says that somebody has the lock of the first GPU.
func (r *rig) locked() bool {
	r.Helper()
	f, err := os.OpenFile(filepath.Join(ledger.Root(r.run), r.read().GPUs[0].BusID, "lock"), os.O_RDWR, 0)
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// MIG mode that could not be turned on is as it was before, and is not taken for on.
func TestModeRefused(t *testing.T) {
	leftover := fakenvml.Machine(fakenvml.H200, 1)
	leftover.GPUs[0].Instances = []fakenvml.Instance{{ID: 7, Profile: 19, Start: 6}} // which has the driver refuse
	pending := leftover
	pending.GPUs = append([]fakenvml.GPU{}, leftover.GPUs...)
	pending.GPUs[0].Pending = true // an administrator's wish, for the next reset
	for name, s := range map[string]fakenvml.State{"mode": leftover, "wish": pending} {
		r := newRig(t, s)
		q := r.request(r.me("a"), ask1g(1))
		allowMode(r, q)
		_, failed, code := r.ask("acquire", q)
		if code != 1 || failed.Code != wire.CodeMIGOff || !strings.Contains(failed.Message, "use") {
			t.Errorf("%s: exit status %d, %v", name, code, failed)
		}
		if after := r.read(); after.GPUs[0].MIG || after.GPUs[0].Pending != s.GPUs[0].Pending {
			t.Errorf("%s: it is %+v, was %+v", name, after.GPUs[0], s.GPUs[0])
		}
	}
}

// Whoever turns MIG mode on while we try has it on.
func TestModeTurnedOnMeanwhile(t *testing.T) {
	r := newRig(t, fakenvml.Machine(fakenvml.H200, 1))
	q := r.request(r.me("a"), ask1g(1))
	allowMode(r, q)
	r.rules(stopAt("nvmlDeviceSetMigMode", -1))
	x := r.begin("acquire", q)
	x.mustStop()
	s := sliced(fakenvml.H200, 1)
	s.Rules = []fakenvml.Rule{stopAt("nvmlDeviceSetMigMode", -1), fault("nvmlDeviceSetMigMode", 19, -1)} // it is in use by then
	r.write(s)
	x.goesOn()
	if x.stops() {
		t.Error("the mode is set once more")
		x.goesOn()
	}
	x.ends()
	if after := r.read(); !after.GPUs[0].MIG || !after.GPUs[0].Pending {
		t.Errorf("it is %+v", after.GPUs[0])
	}
}

// ls reads, and that is all.
func TestListWritesNothing(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	r.ask("ls", r.request(nil))
	if _, err := os.Stat(ledger.Root(r.run)); err == nil {
		t.Error("it made the ledger")
	}
}

// Without root ls says of each GPU what it lacks; it does not fail.
func TestListWithoutRoot(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	r.acquire(r.request(r.me("a"), ask1g(1)))
	for _, dir := range []string{filepath.Dir(helper), r.run, filepath.Dir(r.run)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	x := r.prepare("ls", r.request(nil))
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	x.start()
	out, failed, code := x.ends()
	l, err := wire.DecodeMIGList(out)
	if code != 0 || err != nil || len(l.GPUs) != 2 {
		t.Fatalf("exit status %d, %v, %v: %s", code, failed, err, out)
	}
	for _, g := range l.GPUs {
		if g.Error == nil || g.Error.Code != "ERROR_NO_PERMISSION" || len(g.Instances) != 0 {
			t.Errorf("%+v", g)
		}
	}
}
