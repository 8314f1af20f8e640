// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	"berth/hooks"
	"berth/process"
	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

func sharing(pod string) *specs.Spec {
	return slicing("1g.18gb", AnnotationPrefix+"mig-share", "pod", criContainerType, "container", criSandboxID, pod)
}

// Who begins to share while the last is being deleted has the group to itself, or one of its own.
func TestShareWhileTheLastGoes(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	pod := SliceOwner{Namespace: "ns", ID: "p1", Pod: true}
	if err := create(t, h, bundle(t, sharing("p1")), "a"); err != nil {
		t.Fatal(err)
	}
	claim, err := r.Claim("ns", "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.ungrant(t.Context(), "a", claim); err != nil { // the first half of its deletion
		t.Fatal(err)
	}
	if err := create(t, h, bundle(t, sharing("p1")), "b"); err != nil {
		t.Fatal(err)
	}
	if s.given[pod] != 1 || s.made[pod] != 2 {
		t.Errorf("given back %d times, made %d times", s.given[pod], s.made[pod])
	}
}

// Of those that are deleted at once, in processes of their own, one at least gives back.
func TestShareAllGoAtOnce(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	for range 100 {
		s := newSlicer(d)
		h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
		for _, id := range []string{"a", "b"} {
			if err := create(t, h, bundle(t, sharing("p1")), id); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		given := 0
		for _, id := range []string{"a", "b"} {
			own := newSlicer(d)
			h := &Hook{Planner: h.Planner, Namespace: "ns", Slices: own}
			wg.Go(func() {
				if err := h.Delete(t.Context(), id); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, n := range own.given {
					given += n
				}
			})
		}
		wg.Wait()
		if given == 0 {
			t.Fatal("nobody gave the slice back")
		}
		for _, made := range s.has {
			if err := d.RemoveInstance(0, fakedriver.Instance{GI: made[0].GI}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The last that lives gives back, whatever a shim that died has left in the group.
func TestShareWithTheDead(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	for _, id := range []string{"a", "b"} {
		if err := create(t, h, bundle(t, sharing("p1")), id); err != nil {
			t.Fatal(err)
		}
	}
	all, err := ledger.Tenants(r.Run)
	if err != nil || len(all) != 2 {
		t.Fatalf("tenants %+v, %v", all, err)
	}
	dead := *all[0]
	dead.Container, dead.StartTime, dead.Cgroups = "dead", 1, nil
	if err := dead.Write(r.Run); err != nil {
		t.Fatal(err)
	}
	pod := SliceOwner{Namespace: "ns", ID: "p1", Pod: true}
	for i, id := range []string{"a", "b"} {
		if err := h.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
		if s.given[pod] != i {
			t.Errorf("after %s was deleted it is given back %d times, want %d", id, s.given[pod], i)
		}
	}
}

// A deletion does not wait for what another container of the pod is given, nor does a creation
// beyond its time.
func TestShareHoldsNobodyUp(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	if err := create(t, h, bundle(t, sharing("p1")), "first"); err != nil {
		t.Fatal(err)
	}
	in, out := make(chan bool), make(chan bool)
	s.check = func() { in <- true; <-out }
	done := make(chan error)
	go func() { done <- create(t, h, bundle(t, sharing("p2")), "slow") }()
	<-in
	if len(h.sharing) != 1 {
		t.Error("nothing keeps another container of the pod from finding that there is nothing to share")
	}
	if err := h.Delete(t.Context(), "first"); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.share(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	close(out)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Who creates may be gone when the slices are there: they are given back all the same, by a call
// that has its own time.
func TestAcquireUndoneWithoutItsCaller(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	ctx, cancel := context.WithCancel(t.Context())
	s.check, s.fails = cancel, context.Canceled
	spec, err := hooks.LoadSpec(bundle(t, slicing("1g.18gb")), "c")
	if err != nil {
		t.Fatal(err)
	}
	if err := (hooks.Chain{h}).Create(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if s.given[SliceOwner{Namespace: "ns", ID: "c"}] != 1 || s.late {
		t.Errorf("given back %v, in a time that is over: %t", s.given, s.late)
	}
	if all, err := ledger.Tenants(r.Run); err != nil || len(all) != 0 {
		t.Errorf("tenants %+v, %v", all, err)
	}
	if _, err := r.Claim("ns", "c"); !errdefs.IsNotFound(err) {
		t.Errorf("a claim is left: %v", err)
	}
}

// What cannot be put on record is not begun, and leaves nothing.
func TestMoveInFails(t *testing.T) {
	for _, file := range []string{"tenants", "claims"} {
		d, r := machine(t, fakedriver.Config{GPUs: 1})
		s := newSlicer(d)
		h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
		if err := errors.Join(os.MkdirAll(filepath.Dir(r.run(file)), 0o700), os.WriteFile(r.run(file), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := create(t, h, bundle(t, slicing("1g.18gb")), "c"); err == nil || len(s.made) != 0 {
			t.Errorf("without %s: %v, made %v", file, err, s.made)
		}
		if all, _ := ledger.Tenants(r.Run); len(all) != 0 {
			t.Errorf("without %s: tenants %+v", file, all)
		}
	}
}

// A container whose tenant cannot be removed keeps its claim, for whoever deletes it again.
func TestMoveOutFails(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	if err := create(t, h, bundle(t, slicing("1g.18gb")), "c"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(r.run("tenants", "ns:c:*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the tenants are %q, %v", files, err)
	}
	// Not even root removes a directory with something in it as it does a file.
	if err := errors.Join(os.Remove(files[0]), os.MkdirAll(filepath.Join(files[0], "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, who := range []*Hook{h, {Planner: h.Planner, Namespace: "ns", Slices: s}} { // the shim, and `shim delete`
		if err := who.Delete(t.Context(), "c"); err == nil || !strings.Contains(err.Error(), "release the MIG slices of ns/c") {
			t.Errorf("the error is %v", err)
		}
		if _, err := r.Claim("ns", "c"); err != nil {
			t.Errorf("its claim: %v", err)
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(files[0], "x")), h.Delete(t.Context(), "c")); err != nil {
		t.Error(err)
	}
	if _, err := r.Claim("ns", "c"); !errdefs.IsNotFound(err) || s.given[SliceOwner{Namespace: "ns", ID: "c"}] != 1 {
		t.Errorf("its claim: %v; given back %v", err, s.given)
	}
}

// Where a claim cannot be read, the shim that made it knows what the container has; nobody else does,
// and that is no success.
func TestDeleteWithATornClaim(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	if err := create(t, h, bundle(t, slicing("1g.18gb")), "c"); err != nil {
		t.Fatal(err)
	}
	claim := r.run("claims", "ns:c.json")
	if err := os.WriteFile(claim, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Hook{Planner: h.Planner, Namespace: "ns", Slices: s}).Delete(t.Context(), "c"); err == nil || !strings.Contains(err.Error(), claim) {
		t.Errorf("who did not make it: %v", err)
	}
	if err := h.Delete(t.Context(), "c"); err != nil {
		t.Error(err)
	}
	if all, err := ledger.Tenants(r.Run); err != nil || len(all) != 0 || s.given[SliceOwner{Namespace: "ns", ID: "c"}] != 1 {
		t.Errorf("tenants %+v, %v; given back %v", all, err, s.given)
	}
	if _, err := os.Lstat(claim); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the claim is left: %v", err)
	}
}

// A release that takes long, since somebody uses the slice, is waited for a bounded time; berth-gpu
// goes on when the shim has gone, and ends when it is done.
func TestReleaseGoesOn(t *testing.T) {
	s := fakenvml.Machine(fakenvml.H200, 1)
	s.GPUs[0].MIG, s.GPUs[0].Pending = true, true
	h, _, state := migHelper(t, s)
	h.Supervisor = process.NewSupervisor()
	m := MIG{Helper: h, Roots: Roots{Run: t.TempDir(), Proc: "/proc", Sys: "/sys"}}
	m.Policy.Timeout = 10
	owner := SliceOwner{Namespace: "ns", ID: "c", Group: "g"}
	made, err := m.Acquire(t.Context(), owner, "c", []mig.Ask{{Profile: "1g.18gb", Count: 1}}, []Device{{BusID: s.GPUs[0].BusID}})
	if err != nil {
		t.Fatal(err)
	}
	used, err := fakenvml.Read(state)
	if err != nil {
		t.Fatal(err)
	}
	used.Processes = []fakenvml.Process{{PID: os.Getpid(), GI: made[0].GI, CI: made[0].CI}}
	if err := used.Write(state); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Release(gone, owner); err != nil {
		t.Errorf("the release that nobody waits for: %v", err)
	}
	h.Supervisor.Close() // as the shim ends
	pid := helperOf(t, h.DriverRoot)
	used.Processes = nil
	if err := used.Write(state); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Error(err)
	}
	if after, err := fakenvml.Read(state); err != nil || len(after.GPUs[0].Instances) != 0 {
		t.Errorf("left %+v, %v", after.GPUs[0].Instances, err)
	}
	if none, err := ledger.Without(m.Roots.Run, "g"); !none || err != nil {
		t.Errorf("a record is left: %v", err)
	}
}

// helperOf is the pid of the one helper that sees to a release on a driver.
func helperOf(t *testing.T, root string) int {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		command, err := os.ReadFile(path) // it may be gone
		if err != nil || !strings.Contains(string(command), "release\x00--driver-root\x00"+root) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatal("no helper goes on")
	return 0
}
