// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/ledger"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// made has an instance on record for ns/sliced, in the last of the states.
func made(t *testing.T, r Roots, busID string, gi int, states ...ledger.State) {
	t.Helper()
	q, err := r.MIGRequest(0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := ledger.Open(r.Run, busID, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rec := &ledger.Record{ID: ledger.NewID(), BootID: q.BootID, Driver: q.Driver, BusID: busID, Profile: 19, Name: "1g.18gb",
		Place: nvml.Place{Start: gi, Size: 1}, Began: time.Now().UTC(),
		Owner: nvml.Owner{Namespace: "ns", Container: "sliced", Group: ledger.NewID(), PID: os.Getpid(), StartTime: 1}}
	for _, s := range append([]ledger.State{ledger.Intent}, states...) {
		if s != ledger.Intent {
			rec.GI = &gi
		}
		if s == ledger.Ready {
			rec.CI, rec.MIG = new(int), migUUID(gi)
		}
		if err := l.Write(rec, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func migUUID(gi int) string {
	return "MIG-0000000" + string(rune('0'+gi)) + "-2222-3333-4444-555555555555"
}

var ready = []ledger.State{ledger.GICreated, ledger.CIIntent, ledger.Ready}

// shown is what NVML says of the first GPU: two MIG devices.
func shown(d *fakedriver.Driver) func(context.Context) (*nvml.List, error) {
	return func(context.Context) (*nvml.List, error) {
		return &nvml.List{Devices: []nvml.Device{{BusID: d.GPUs[0].BusID, UUID: d.GPUs[0].UUID, MIGMode: nvml.MIGEnabled,
			MIG: []nvml.MIG{{Index: 0, UUID: migUUID(8), GI: 8}, {Index: 1, UUID: migUUID(9), GI: 9}}}}}, nil
	}
}

// stranger has all ways to ask for MIG devices that there are: without a name, and by that of gi8.
func stranger(t *testing.T, r Roots) (any, named map[string]*specs.Spec) {
	t.Helper()
	env := func(value string) *specs.Spec {
		return changed(container(""), func(s *specs.Spec) { s.Annotations, s.Process.Env = nil, []string{"NVIDIA_VISIBLE_DEVICES=" + value} })
	}
	mount := func(value string) *specs.Spec {
		return changed(container(""), func(s *specs.Spec) {
			s.Annotations, s.Process.Env = nil, nil
			s.Mounts = append(s.Mounts, specs.Mount{Source: "/dev/null", Destination: mountsBelow + value})
		})
	}
	unresolved := func(value string) *specs.Spec {
		return changed(container(""), func(s *specs.Spec) { s.Annotations = map[string]string{"cdi.k8s.io/x": "nvidia.com/" + value} })
	}
	any = map[string]*specs.Spec{
		"all": container("all"), "mig:all": container("mig:all"), "environment": env("all"), "mount": mount("all"),
		"CDI, all": unresolved("gpu=all"), "CDI, mig": unresolved("mig=all"),
	}
	named = map[string]*specs.Spec{
		"UUID": container(migUUID(8)), "index": container("0:0"), "environment, UUID": env(migUUID(8)), "environment, index": env("0:0"),
		"mount, UUID": mount(migUUID(8)), "CDI, index": unresolved("mig=0:0"),
	}
	inv := discover(t, r)
	nodes, err := inv.InstanceNodes(inv.Devices[0], Instance{GI: 8})
	if err != nil {
		t.Fatal(err)
	}
	named["CDI edits"] = changed(container(""), func(s *specs.Spec) {
		s.Annotations, s.Process.Env = nil, nil
		for _, n := range nodes {
			s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: n.Path})
		}
		s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{cdiHookOf("update-ldcache", "--folder", "/l")}}
	})
	return any, named
}

// A MIG device that was made for a container is given to no other, however it is asked for and in
// whatever state it is; what somebody else made is given as before.
func TestMadeIsNoStrangers(t *testing.T) {
	for name, states := range map[string][]ledger.State{
		"GICreated": ready[:1], "CIIntent": ready[:2], "Ready": ready,
		"Releasing": append(slices.Clone(ready), ledger.Releasing),
		"Zombie":    append(slices.Clone(ready), ledger.Releasing, ledger.Zombie),
		"Idle":      append(slices.Clone(ready), ledger.Releasing, ledger.Idle),
	} {
		t.Run(name, func(t *testing.T) {
			d, r := machine(t, fakedriver.Config{GPUs: 1, MIG: [][]fakedriver.Instance{{{GI: 8}, {GI: 9}}}})
			made(t, r, d.GPUs[0].BusID, 8, states...)
			p := Planner{Roots: r, NVML: shown(d), Policy: Policy{EnvPlain: []string{"NVIDIA_VISIBLE_DEVICES"}, VolumeMounts: true}}
			any, named := stranger(t, r)
			for by, spec := range any {
				if plan, err := p.Plan(t.Context(), spec); err != nil || len(plan.Devices) != 1 || plan.Devices[0].Instance == nil || plan.Devices[0].Instance.GI != 9 {
					t.Errorf("%s: given %+v, %v", by, plan, err)
				}
			}
			for by, spec := range named {
				if plan, err := p.Plan(t.Context(), spec); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "was made for ns/sliced ("+name) {
					t.Errorf("%s: given %+v, %v", by, plan, err)
				}
			}
			for by, ask := range map[string]string{"UUID": migUUID(9), "index": "0:1"} {
				if plan, err := p.Plan(t.Context(), container(ask)); err != nil || len(plan.Devices) != 1 || plan.Devices[0].Instance.GI != 9 {
					t.Errorf("what somebody else made, by %s: given %+v, %v", by, plan, err)
				}
			}
			made(t, r, d.GPUs[0].BusID, 9, ready...)
			for by, spec := range any {
				if plan, err := p.Plan(t.Context(), spec); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "berth.dev/mig") {
					t.Errorf("%s, where all are made: given %+v, %v", by, plan, err)
				}
			}
		})
	}
}

// Where a record cannot be read, no MIG device of its GPU is given: it may be of any.
func TestTornRecordIsNoStrangers(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1, MIG: [][]fakedriver.Instance{{{GI: 8}, {GI: 9}}}})
	made(t, r, d.GPUs[0].BusID, 8, ready...)
	torn := filepath.Join(ledger.Root(r.Run), d.GPUs[0].BusID, ledger.NewID()+".json")
	if err := os.WriteFile(torn, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if plan, err := (&Planner{Roots: r}).Plan(t.Context(), container("mig:all")); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), torn) {
		t.Errorf("given %+v, %v", plan, err)
	}
}

// An instance that is made in the place of one that a container was just shown is not given to it.
func TestMadeAfterTheFirstLook(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1, MIG: [][]fakedriver.Instance{{{GI: 8}}}})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	meets := "NVIDIA_REQUIRE_CUDA=cuda>=1.0"
	h.NVML = func(context.Context) (*nvml.List, error) { // asked after the devices are chosen
		made(t, r, d.GPUs[0].BusID, 8, ready...)
		return &nvml.List{CUDAVersion: "12.4"}, nil
	}
	spec := changed(container("mig:all"), func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, meets) })
	if err := create(t, h, bundle(t, spec), "c"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "was made for ns/sliced") {
		t.Errorf("the error is %v", err)
	}
	if _, err := r.Claim("ns", "c"); !errdefs.IsNotFound(err) {
		t.Errorf("a claim is left: %v", err)
	}
}

// A slice that is given back between the look at the devices and that at the ledger is taken for
// nobody else's: it is gone.
func TestGoneBetweenTheLooks(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1, MIG: [][]fakedriver.Instance{{{GI: 8}, {GI: 9}}}})
	inv := discover(t, r)
	if err := d.RemoveInstance(0, fakedriver.Instance{GI: 8, CI: fakedriver.NoCI}); err != nil {
		t.Fatal(err)
	}
	recall(inv, nil)
	if found := inv.Devices[0].MIG; len(found) != 1 || found[0].GI != 9 {
		t.Errorf("found %+v", found)
	}
}

// Who was given a MIG device of somebody else's keeps its nodes when that is destroyed: no slice is
// made that these nodes would be of.
func TestSliceOfAStrangersNodes(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1, MIG: [][]fakedriver.Instance{{{GI: 8}}}})
	s := newSlicer(d) // the first that it makes is gi8
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	if err := create(t, h, bundle(t, container("mig:all")), "stranger"); err != nil {
		t.Fatal(err)
	}
	remove := func() {
		t.Helper()
		if err := d.RemoveInstance(0, fakedriver.Instance{GI: 8, CI: fakedriver.NoCI}); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(says string) {
		t.Helper()
		if err := create(t, h, bundle(t, slicing("1g.18gb")), "c"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v", err)
		}
	}
	s.check = remove // it is destroyed after it was looked for
	refused("which ns/stranger was given")
	if s.given[SliceOwner{Namespace: "ns", ID: "c"}] != 1 {
		t.Errorf("the slice was given back %v", s.given)
	}
	remove()
	s.check = func() { t.Error("a slice was made") }
	refused("would get it again for ns/stranger (gi8)")
	s.check = nil
	if err := errors.Join(h.Delete(t.Context(), "stranger"), create(t, h, bundle(t, slicing("1g.18gb")), "c")); err != nil {
		t.Error(err)
	}
}
