// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// What a release could not do, since somebody held the lock, or it was killed, whoever comes next
// does, though the shim that acquired it lives.
func TestReleaseMissed(t *testing.T) {
	for name, miss := range map[string]func(*rig, *wire.MIGRequest){
		"the lock is held": func(r *rig, q *wire.MIGRequest) {
			lock, err := os.OpenFile(filepath.Join(r.run, "gpu/mig", r.read().GPUs[0].BusID, "lock"), os.O_RDWR, 0)
			if err != nil {
				r.Fatal(err)
			}
			defer lock.Close()
			if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
				r.Fatal(err)
			}
			q.TimeoutMS = 100
			if _, failed, _ := r.ask("release", q); failed == nil || failed.Code != wire.CodeLocked {
				r.Errorf("the error is %v", failed)
			}
		},
		"it is killed between two instances": func(r *rig, q *wire.MIGRequest) {
			s := r.read()
			s.Rules = []fakenvml.Rule{{Verb: fakenvml.Exit, Symbol: "nvmlGpuInstanceDestroy", Value: 9, GPU: -1}}
			r.write(s)
			if _, _, code := r.ask("release", q); code != 9 {
				r.Errorf("exit status %d", code)
			}
			s = r.read()
			s.Rules = nil
			r.write(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			first := r.read()
			r.acquire(r.request(r.me("a"), ask1g(7)))
			miss(r, r.request(r.me("a")))
			if n := len(r.read().GPUs[0].Instances); n == 0 {
				t.Fatal("nothing was missed")
			}
			r.acquire(r.request(r.me("b"), ask1g(7)))
			r.report("release", r.request(r.me("b")))
			r.asAtFirst(first, "at the end")
		})
	}
}

// A release that comes late takes nothing from another container of the same name.
func TestLateRelease(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	earlier := r.me("a")
	earlier.Group = "earlier"
	r.acquire(r.request(earlier, ask1g(1)))
	made := r.acquire(r.request(r.me("a"), ask1g(1)))
	if deeds, _ := r.report("release", r.request(earlier)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Destroyed}) {
		t.Errorf("the late release: %v", deeds)
	}
	r.distinct(made, "after the late release")
	if deeds, _ := r.report("sweep", r.request(nil)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Kept}) {
		t.Errorf("swept: %v", deeds)
	}
}

// A full disk keeps nobody from giving back: no new slice is made, and the old ones go, those in
// use when their users have gone.
func TestFullDisk(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	if err := unix.Mount("tmpfs", r.run, "tmpfs", 0, "size=128k"); err != nil {
		t.Skipf("missing capability: mount(2): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(r.run, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r.state = filepath.Join(t.TempDir(), "state")
	r.write(first)
	made := r.acquire(r.request(r.me("a"), ask1g(2)))
	filler, err := os.Create(filepath.Join(r.run, "filler"))
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	if _, failed, code := r.ask("acquire", &wire.MIGRequest{Run: r.run, BootID: r.boot, Driver: r.driver, TimeoutMS: 10_000, Owner: r.me("b"), Asks: []wire.MIGAsk{ask1g(1)}}); code != 1 {
		t.Errorf("acquired on a full disk: %v", failed)
	}
	user := newPod(t, 1)
	s := r.read()
	s.Processes = []fakenvml.Process{{PID: user.PID, Bytes: 1 << 30, GI: made[0].GI, CI: made[0].CI}}
	r.write(s)
	q := r.request(r.me("a"))
	q.TimeoutMS = 100
	if deeds, report := r.report("release", q); len(deeds) < 2 || deeds[len(deeds)-1] != wire.Zombie || len(r.read().GPUs[0].Instances) != 1 {
		t.Errorf("released: %+v, left %v", report, instances(r.read()))
	}
	user.die()
	if deeds, _ := r.report("sweep", r.request(nil)); !reflect.DeepEqual(deeds, []wire.Deed{wire.Destroyed}) {
		t.Errorf("swept: %v", deeds)
	}
	s = r.read()
	s.Processes = nil
	r.write(s)
	r.asAtFirst(first, "at the end")
}

// Between its tries a release has let go of the driver: it would keep it from being unloaded.
func TestReleaseLetsGo(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	made := r.acquire(r.request(r.me("a"), ask1g(1)))
	user := newPod(t, 1)
	s := r.read()
	s.Processes = []fakenvml.Process{{PID: user.PID, Bytes: 1 << 30, GI: made[0].GI, CI: made[0].CI}}
	s.Rules = []fakenvml.Rule{{Verb: fakenvml.Exit, Symbol: "nvmlShutdown", Value: 9, GPU: -1}}
	r.write(s)
	if _, _, code := r.ask("release", r.request(r.me("a"))); code != 9 {
		t.Errorf("exit status %d: it did not let go after a try", code)
	}
	user.die()
}

// A call that is slower than a release has patience for holds the lock of its GPU while it lasts, and no
// longer: then the release goes on, and others come in.
func TestReleaseAfterASlowCall(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	r.acquire(r.request(r.me("a"), ask1g(1)))
	r.rules(fakenvml.Rule{Verb: fakenvml.Delay, Symbol: "nvmlComputeInstanceDestroy", Value: 2_500_000, GPU: -1}) // patience is 2 s
	q := r.request(r.me("a"))
	q.TimeoutMS = 8000
	x := r.begin("release", q)
	r.awaitState(ledger.Releasing) // it is in the call, or about to be, and has the lock
	p := r.request(r.me("b"), ask1g(7))
	p.TimeoutMS = timeout.Milliseconds()
	made := r.acquire(p)
	if _, failed, code := x.ends(); code != 0 {
		t.Errorf("the release failed: %v", failed)
	}
	r.distinct(made, "afterwards")
	r.rules()
	r.report("release", r.request(r.me("b")))
	r.asAtFirst(first, "at the end")
}

// Where no more can be watched, since others watch so much, a release does all but end early.
func TestReleaseWithoutAWatch(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	r.acquire(r.request(r.me("a"), ask1g(1)))
	r.acquire(r.request(r.me("b"), ask1g(1)))
	for name, keep := range map[string]int64{"a": 0, "b": 200} {
		q := r.request(r.me(name))
		q.KeepIdleMS = keep
		x := r.prepare("release", q)
		const unwatched = `echo 0 >/proc/sys/user/max_inotify_instances && exec "$0" "$@"`
		x.cmd.Path, x.cmd.Args = "/bin/sh", append([]string{"sh", "-c", unwatched}, x.cmd.Args...)
		mine := []syscall.SysProcIDMap{{Size: 1}}
		x.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: mine, GidMappings: mine}
		x.start()
		if out, failed, code := x.ends(); code != 0 {
			t.Errorf("kept for %d ms: exit status %d, %v%s", keep, code, failed, out)
		}
	}
	r.asAtFirst(first, "at the end")
}

// A release ends soon after its deadline, whatever the driver does: nobody is there to kill it.
func TestReleaseOfAHangingDriver(t *testing.T) {
	for _, symbol := range []string{"nvmlInit_v2", "nvmlShutdown"} {
		t.Run(symbol, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, sliced(fakenvml.H200, 1))
			r.acquire(r.request(r.me("a"), ask1g(1)))
			r.rules(fakenvml.Rule{Verb: fakenvml.Delay, Symbol: symbol, Value: int(2 * timeout.Microseconds()), GPU: -1})
			q := r.request(r.me("a"))
			q.TimeoutMS = 500
			x := r.begin("release", q)
			if _, failed, code := x.ends(); code != 1 || failed.Code != "ERROR_TIMEOUT" {
				t.Errorf("exit status %d, %v", code, failed)
			}
		})
	}
}

// The time for which slices are kept idle is none for what is in the way of a release.
func TestReleaseBusyWithKeepIdle(t *testing.T) {
	for name, hinder := range map[string]func(*rig, wire.Slice){
		"in use": func(r *rig, made wire.Slice) {
			user := newPod(r, 1)
			r.Cleanup(user.die)
			s := r.read()
			s.Processes = []fakenvml.Process{{PID: user.PID, Bytes: 1 << 30, GI: made.GI, CI: made.CI}}
			r.write(s)
		},
		"locked": func(r *rig, _ wire.Slice) { r.holdLock(0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, sliced(fakenvml.H200, 1))
			hinder(r, r.acquire(r.request(r.me("a"), ask1g(1)))[0])
			q := r.request(r.me("a"))
			q.KeepIdleMS = 2 * timeout.Milliseconds() // beyond that the test kills it
			q.TimeoutMS = 300 + q.KeepIdleMS
			x := r.begin("release", q)
			if _, failed, code := x.ends(); code < 0 {
				t.Errorf("exit status %d, %v: it goes on though nothing is idle", code, failed)
			}
		})
	}
}

// What is kept idle is watched over to its end, though another slice of the group is in use for longer than a
// release tries.
func TestReleaseIdleBesideBusy(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	made := r.acquire(r.request(r.me("a"), ask1g(2)))
	user := newPod(t, 1)
	t.Cleanup(user.die)
	s := r.read()
	s.Processes = []fakenvml.Process{{PID: user.PID, Bytes: 1 << 30, GI: made[0].GI, CI: made[0].CI}}
	r.write(s)
	q := r.request(r.me("a"))
	q.KeepIdleMS, q.TimeoutMS = 1000, 1300
	r.report("release", q)
	if left := r.ledger(0); len(left) != 1 || left[0].State != ledger.Zombie {
		t.Errorf("left %+v", left)
	}
}
