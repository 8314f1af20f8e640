// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
	"berth/process/cgroup"
	"berth/test/fakenvml"
)

// orphan is a container that lives, whose shim does not.
func (r *rig) orphan(id string) (o *wire.Owner, container *pod) {
	r.Helper()
	loc, err := cgroup.Claim("/" + ledger.NewID())
	if err != nil {
		r.Fatal(err)
	}
	container = newPod(r.TB, 0)
	r.Cleanup(func() {
		container.die()
		cg, err := cgroup.Load(loc)
		if err == nil {
			err = cg.Remove(context.Background())
			_ = cg.Close()
		}
		if err != nil {
			r.Error(err)
		}
	})
	joined := false
	for _, dir := range loc.Dirs {
		joined = os.WriteFile(filepath.Join(dir.Path, "cgroup.procs"), fmt.Append(nil, container.PID), 0) == nil || joined
	}
	if !joined {
		r.Fatal("there is no cgroup to join")
	}
	o = r.gone(id)
	t := r.tenant(o, id)
	t.Cgroups = []cgroup.Location{loc}
	if err := t.Write(r.run); err != nil {
		r.Fatal(err)
	}
	return o, container
}

// A container whose shim was killed keeps its slice as long as it lives, though the driver would
// let it go; and who is refused learns who has it.
func TestOrphanKeepsItsSlice(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 1))
	first := r.read()
	o, container := r.orphan("a")
	q := r.request(o)
	q.Asks = []wire.MIGAsk{ask1g(7)}
	r.acquire(q)
	held := r.read()
	if deeds, report := r.report("sweep", r.request(nil)); len(deeds) != 7 || deeds[0] != wire.Kept || !strings.Contains(report.Actions[0].Why, "its processes live") {
		t.Errorf("swept: %+v", report)
	}
	_, failed, _ := r.ask("acquire", r.request(r.me("b"), ask1g(1)))
	if failed == nil || failed.Code != "ERROR_INSUFFICIENT_RESOURCES" || !strings.Contains(failed.Message, "of ns/a (its shim is gone, and its processes live)") {
		t.Errorf("the error is %v", failed)
	}
	// Nor does it lose it to a container of the same name.
	if _, failed, _ := r.ask("acquire", &wire.MIGRequest{Run: r.run, BootID: r.boot, Driver: r.driver, TimeoutMS: 10_000, Owner: o, For: "again", Asks: []wire.MIGAsk{ask1g(1)}}); failed == nil || failed.Code != "ERROR_INSUFFICIENT_RESOURCES" {
		t.Errorf("the error is %v", failed)
	}
	if now := r.read(); !reflect.DeepEqual(now, held) {
		t.Errorf("the machine became %+v", now)
	}
	container.die()
	r.acquire(r.request(r.me("b"), ask1g(7)))
	r.report("release", r.request(r.me("b")))
	r.asAtFirst(first, "at the end")
}

// The containers of a pod have one slice, from the first to the last of them, whatever shims they
// have; what is shared goes to nobody who asks for something else.
func TestShare(t *testing.T) {
	r := newRig(t, sliced(fakenvml.H200, 2))
	first := r.read()
	o := r.me("pod:p")
	o.Pod, o.Group = "p", "g"
	ask := func(container string, asks ...wire.MIGAsk) *wire.MIGRequest {
		q := r.request(o)
		q.Asks, q.For, q.Share = asks, container, true
		return q
	}
	same := []wire.MIGAsk{{Memory: 10 << 30, Count: 2}, {Profile: "3g.71gb", Count: 1}}
	a, b := r.tenant(o, "a"), r.tenant(r.other(o), "b")
	made := r.acquire(ask("a", same...))
	if again := r.acquire(ask("b", same...)); !reflect.DeepEqual(again, made) {
		t.Errorf("one has %+v, the other %+v", made, again)
	}
	for _, asks := range [][]wire.MIGAsk{{ask1g(1)}, {ask1g(3)}, append(same[:2:2], ask1g(1)), {{Memory: 10 << 30, Count: 1}, {Memory: 20 << 30, Count: 1}, {Profile: "3g.71gb", Count: 1}}} {
		if _, failed, _ := r.ask("acquire", ask("b", asks...)); failed == nil || failed.Code != wire.CodeHeld || !strings.Contains(failed.Message, "ask for the same") {
			t.Errorf("%+v: the error is %v", asks, failed)
		}
	}
	deeds := func(container string, gone *ledger.Tenant, want wire.Deed) {
		t.Helper()
		if err := gone.Remove(r.run); err != nil {
			t.Fatal(err)
		}
		if did, _ := r.report("release", ask(container)); !reflect.DeepEqual(did, []wire.Deed{want, want, want}) {
			t.Errorf("release of %s: %v", container, did)
		}
	}
	deeds("a", a, wire.Kept)
	if did, _ := r.report("sweep", r.request(nil)); len(did) != 3 || did[0] != wire.Kept {
		t.Errorf("swept: %v", did)
	}
	deeds("b", b, wire.Destroyed)
	r.asAtFirst(first, "at the end")
}

// other is the same owner, asked for by a shim that lives, but another one.
func (r *rig) other(o *wire.Owner) *wire.Owner {
	p := newPod(r.TB, 0)
	r.Cleanup(p.die)
	out := *o
	out.PID, out.StartTime = p.PID, p.StartTime
	return &out
}
