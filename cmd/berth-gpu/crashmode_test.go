// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// majors are those of the nodes that hold has open: each machine has its own, and none that the
// kernel gives, which other tests may have open.
var majors atomic.Int64

// hold uses a slice, as a process does that has its node open, until it lets go.
func (r *rig) hold(slice wire.Slice) (letGo func()) {
	r.Helper()
	s := r.read()
	if s.Nodes.Caps == 0 {
		s.Nodes.Caps = 512 + (os.Getpid()*64+int(majors.Add(1)))%3584 // MAJOR(3) has 12 bits
		r.write(s)
	}
	node := filepath.Join(r.TempDir(), "node")
	minor := 3 + 135*slice.Minor + 9*slice.GI + 1 + slice.CI // nv-caps.c
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(s.Nodes.Caps), uint32(minor)))); err != nil {
		r.Fatal(err)
	}
	f, err := os.OpenFile(node, unix.O_PATH, 0)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = f.Close() })
	return func() {
		syscall.ForkLock.RLock() // a child of another test has it until its exec
		defer syscall.ForkLock.RUnlock()
		if err := f.Close(); err != nil {
			r.Fatal(err)
		}
	}
}

// eachKill runs a round with each kill until the helper ends by itself. It is skipped where what
// the kill left is what the one before it left.
func eachKill(t *testing.T, prepare func(t *testing.T) *rig, victim func(*rig) (code int), then func(r *rig)) {
	for what, kill := range kills {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			last := ""
			for n, code := 1, -1; code < 0; n++ {
				r := prepare(t)
				kill(r, n)
				if code = victim(r); code == 0 && n < 5 {
					t.Fatalf("only %d steps", n)
				}
				r.revive()
				left := r.signature()
				if left != last || code == 0 || *long {
					then(r)
				}
				last = left
			}
		})
	}
}

// Whatever instant the helper is killed at while it turns MIG mode on, what comes next finds the
// mode on, or off, and not half, and nothing is left.
func TestKilledOverMode(t *testing.T) {
	first := fakenvml.Machine(fakenvml.H200, 1)
	for _, next := range []struct {
		name string
		do   func(*rig)
	}{
		{"all is swept", func(r *rig) { r.report("sweep", r.request(nil)) }},
		{"another acquires", func(r *rig) {
			q := r.request(r.me("next"), ask1g(7))
			allowMode(r, q)
			r.distinct(r.acquire(q), "the next one's")
			r.report("release", r.request(r.me("next")))
		}},
	} {
		t.Run(next.name, func(t *testing.T) {
			eachKill(t, func(t *testing.T) *rig { return newRig(t, first) }, func(r *rig) int {
				q := r.request(r.gone("victim"), ask1g(1))
				allowMode(r, q)
				_, failed, code := r.ask("acquire", q)
				if failed != nil {
					r.Fatal(failed)
				}
				return code
			}, func(r *rig) {
				next.do(r)
				r.asAtFirst(first, next.name)
				if s := r.read(); s.GPUs[0].MIG != s.GPUs[0].Pending {
					r.Errorf("MIG mode is %v, and %v is pending", s.GPUs[0].MIG, s.GPUs[0].Pending)
				}
			})
		})
	}
}

// Whatever instant the helper is killed at while it releases, or sweeps, what somebody uses, it is
// nobody else's as long as it is used, and gone soon after.
func TestKilledOverZombie(t *testing.T) {
	for _, word := range []string{"release", "sweep"} {
		t.Run(word, func(t *testing.T) {
			var held sync.Map // by rig: how to let go
			eachKill(t, func(t *testing.T) *rig {
				r := newRig(t, shared())
				made := r.acquire(r.request(r.gone("victim"), ask1g(2)))
				held.Store(r, r.hold(made[0]))
				return r
			}, func(r *rig) int {
				q := r.request(r.gone("victim"))
				if q.TimeoutMS = 100; word == "sweep" { // a release tries again until then
					q = r.request(nil)
				}
				_, failed, code := r.ask(word, q)
				if failed != nil && failed.Code != wire.CodeLocked { // in that short time
					r.Fatal(failed)
				}
				return code
			}, func(r *rig) {
				inUse := r.read()
				used := slices.DeleteFunc(inUse.GPUs[0].Instances, func(in fakenvml.Instance) bool { return in.Profile != 19 || in.ID == 9 })
				r.unharmed(shared(), word)
				made := r.acquire(r.request(r.me("next"), ask1g(3))) // all that is left beside it
				r.distinct(made, "beside what is in use")
				if len(used) == 0 {
					r.Fatal("it was destroyed in use")
				}
				letGo, _ := held.Load(r)
				letGo.(func())()
				r.report("release", r.request(r.me("next")))
				r.report("sweep", r.request(nil))
				r.asAtFirst(shared(), word)
			})
		})
	}
}
