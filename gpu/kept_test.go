// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/gpu/ledger"
	"berth/gpu/nvml"
	"berth/hooks"
	"berth/test/fakedriver"
)

// recorded has a slice on record, of a boot.
func recorded(t *testing.T, r Roots, busID, boot string) {
	t.Helper()
	q, err := r.MIGRequest(0)
	if err != nil {
		t.Fatal(err)
	}
	if boot == "" {
		boot = q.BootID
	}
	d, err := ledger.Open(r.Run, busID, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner := nvml.Owner{Namespace: "ns", Container: "sliced", Group: ledger.NewID(), PID: os.Getpid(), StartTime: 1}
	rec := &ledger.Record{ID: ledger.NewID(), BootID: boot, Driver: q.Driver, BusID: busID, Profile: 19, Name: "1g.18gb",
		Place: nvml.Place{Start: 0, Size: 1}, Owner: owner, Began: time.Now().UTC()}
	if err := errors.Join(l.Write(rec, ledger.Intent), l.Unlock()); err != nil {
		t.Fatal(err)
	}
}

// being has slices made for another container, with a GPU's MIG mode perhaps turned on for them.
func being(t *testing.T, r Roots, busID string) {
	t.Helper()
	c := &Claim{Namespace: "ns", ID: "slicing", Slices: &HeldSlices{Owner: SliceOwner{Namespace: "ns", ID: "slicing", Group: "g"}, Modes: []string{busID}}}
	if err := r.writeClaim(c); err != nil {
		t.Fatal(err)
	}
}

// A GPU that is sliced, that the configuration has partitioned, or whose MIG mode may be turned on
// just now, is given to nobody whole, however it is asked for.
func TestSlicedIsNotWhole(t *testing.T) {
	visible := func(value string) *specs.Spec {
		return changed(container(""), func(s *specs.Spec) {
			s.Annotations, s.Process.Env = nil, []string{"NVIDIA_VISIBLE_DEVICES=" + value}
		})
	}
	for name, c := range map[string]struct {
		make func(p *Planner, d *fakedriver.Driver)
		kept bool
		says string
	}{
		"by address":     {func(p *Planner, d *fakedriver.Driver) { p.Partitioned = []string{d.GPUs[0].BusID} }, true, "mig.gpus"},
		"by UUID":        {func(p *Planner, d *fakedriver.Driver) { p.Partitioned = []string{d.GPUs[0].UUID} }, true, "mig.gpus"},
		"another":        {func(p *Planner, d *fakedriver.Driver) { p.Partitioned = []string{"0000:ff:00.0"} }, false, ""},
		"on record":      {func(p *Planner, d *fakedriver.Driver) { recorded(t, p.Roots, d.GPUs[0].BusID, "") }, true, "1g.18gb of it was made for ns/sliced"},
		"another boot's": {func(p *Planner, d *fakedriver.Driver) { recorded(t, p.Roots, d.GPUs[0].BusID, "another") }, false, ""},
		"mode": {func(p *Planner, d *fakedriver.Driver) {
			p.AllowMode = []string{d.GPUs[0].BusID}
			being(t, p.Roots, d.GPUs[0].BusID)
		}, true, "may be turned on just now, for ns/slicing"},
		"mode of another": {func(p *Planner, d *fakedriver.Driver) {
			p.AllowMode = []string{d.GPUs[1].BusID}
			being(t, p.Roots, "0000:ff:00.0")
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, r := machine(t, fakedriver.Config{GPUs: 2})
			p := Planner{Roots: r, Policy: Policy{EnvPlain: []string{"NVIDIA_VISIBLE_DEVICES"}}}
			c.make(&p, d)
			cdi := changed(container(""), func(s *specs.Spec) {
				s.Annotations, s.Process.Env = nil, nil
				s.Linux.Devices = []specs.LinuxDevice{{Path: "/" + d.GPUs[0].Node(), Type: "c", Major: nvidiaMajor, Minor: int64(d.GPUs[0].Minor)}}
				s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{cdiHookOf("update-ldcache", "--folder", "/l")}}
			})
			for asks, spec := range map[string]*specs.Spec{"1": container("1"), "all": container("all"), "all, as NVIDIA": visible("all")} {
				plan, err := p.Plan(t.Context(), spec)
				if err != nil {
					t.Fatalf("%s: %v", asks, err)
				}
				first := slices.ContainsFunc(plan.Devices, func(s Selected) bool { return s.Device.Index == 0 })
				if first == c.kept || len(plan.Devices) == 0 {
					t.Errorf("%s: given %+v", asks, plan.Devices)
				}
			}
			for asks, spec := range map[string]*specs.Spec{"index": container("index:0"), "UUID": container(d.GPUs[0].UUID), "as NVIDIA": visible("0"), "CDI": cdi} {
				plan, err := p.Plan(t.Context(), spec)
				if !c.kept && (err != nil || len(plan.Devices) != 1) || c.kept && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.says)) {
					t.Errorf("%s: %v", asks, err)
				}
			}
			if _, err := p.Plan(t.Context(), container("2")); c.kept && (err == nil || !strings.Contains(err.Error(), "kept for MIG")) {
				t.Errorf("two: %v", err)
			}
		})
	}
}

// A GPU that the configuration names by its UUID is known by it also before the kernel shows it.
func TestPartitionedByAUUIDNotShown(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2, UUIDUnknown: []int{0, 1}})
	p := Planner{Roots: r, Partitioned: []string{d.GPUs[0].UUID}, NVML: func(context.Context) (*nvml.List, error) {
		return &nvml.List{Devices: []nvml.Device{{BusID: d.GPUs[0].BusID, UUID: d.GPUs[0].UUID}, {BusID: d.GPUs[1].BusID, UUID: d.GPUs[1].UUID}}}, nil
	}}
	plan, err := p.Plan(t.Context(), container("1"))
	if err != nil || plan.Devices[0].Device.BusID != d.GPUs[1].BusID {
		t.Errorf("given %+v, %v", plan, err)
	}
	p.NVML = func(context.Context) (*nvml.List, error) { return nil, errdefs.ErrUnavailable }
	if plan, err := p.Plan(t.Context(), container("index:1")); err == nil || !strings.Contains(err.Error(), "cannot be told") {
		t.Errorf("without NVML: %+v, %v", plan, err)
	}
}

// A GPU that cannot be used, and one that a container holds whole, is not sliced, nor put into MIG mode.
func TestWholeIsNotSliced(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 4, Excluded: []int{3}})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r, AllowMode: []string{d.GPUs[0].BusID, d.GPUs[2].BusID}}, Namespace: "ns", Slices: s}
	if err := create(t, h, bundle(t, container("index:2")), "whole"); err != nil {
		t.Fatal(err)
	}
	if err := SetBar(r, Bar{BusID: d.GPUs[1].BusID, Xid: 79}); err != nil {
		t.Fatal(err)
	}
	s.check = func() {
		if c, err := r.Claim("ns", "c"); err != nil || !slices.Equal(c.Slices.Modes, []string{d.GPUs[0].BusID, d.GPUs[2].BusID}) {
			t.Errorf("while the slice is made its claim is %+v, %v", c, err)
		}
	}
	if err := create(t, h, bundle(t, slicing("1g.18gb")), "c"); err != nil {
		t.Fatal(err)
	}
	if len(s.usable) != 1 || s.usable[0].BusID != d.GPUs[0].BusID {
		t.Errorf("usable are %+v", s.usable)
	}
	if c, err := r.Claim("ns", "c"); err != nil || c.Slices.Modes != nil {
		t.Errorf("the claim of what was made is %+v, %v", c, err)
	}

	s.check, s.fails = nil, errdefs.ErrResourceExhausted
	why := []string{"GPU " + d.GPUs[1].BusID + " is barred", "GPU " + d.GPUs[2].BusID + " is held whole by ns/whole", "GPU " + d.GPUs[3].BusID + " is excluded"}
	refuses := func(class error) {
		t.Helper()
		err := create(t, h, bundle(t, slicing("1g.18gb")), "d")
		if !errors.Is(err, class) || slices.ContainsFunc(why, func(w string) bool { return !strings.Contains(err.Error(), w) }) {
			t.Errorf("the error is %v", err)
		}
	}
	refuses(errdefs.ErrResourceExhausted)
	setBar(t, r, Bar{BusID: d.GPUs[0].BusID, Xid: 79})
	s.check = func() { t.Error("asked for slices of no GPU") }
	refuses(errdefs.ErrFailedPrecondition)
}

// Who is given a GPU whole looks again once that is on record, and who is given slices looks only
// then who has what: so one of the two sees the other.
func TestWholeAndSlicedAtOnce(t *testing.T) {
	for name, begin := range map[string]func(Roots, string){
		"mode":   func(r Roots, bus string) { being(t, r, bus) },
		"record": func(r Roots, bus string) { recorded(t, r, bus, "") },
	} {
		d, r := machine(t, fakedriver.Config{GPUs: 1})
		bus := d.GPUs[0].BusID
		h := &Hook{Planner: Planner{Roots: r, AllowMode: []string{bus}}, Namespace: "ns"}
		h.NVML = func(context.Context) (*nvml.List, error) { // the first look is over
			begin(r, bus)
			return nil, errdefs.ErrUnavailable
		}
		if err := create(t, h, bundle(t, container("1")), "whole"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: the error is %v", name, err)
		}
		if _, err := r.Claim("ns", "whole"); !errdefs.IsNotFound(err) {
			t.Errorf("%s: a claim is left: %v", name, err)
		}
	}

	d, r := machine(t, fakedriver.Config{GPUs: 1})
	bus := d.GPUs[0].BusID
	before := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	spec, err := hooks.LoadSpec(bundle(t, container("1")), "whole")
	if err != nil {
		t.Fatal(err)
	}
	if err := (hooks.Chain{before}).Create(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Claim("ns", "whole"); err != nil || len(c.Devices) != 1 {
		t.Errorf("before anything is mounted the claim is %+v, %v", c, err)
	}
	if err := before.Delete(t.Context(), "whole"); err != nil {
		t.Fatal(err)
	}

	// The look at the GPU's bar waits for a writer.
	if err := errors.Join(os.MkdirAll(r.run("barred"), 0o700), unix.Mkfifo(r.run("barred", bus), 0o600)); err != nil {
		t.Fatal(err)
	}
	h := &Hook{Planner: Planner{Roots: r, AllowMode: []string{bus}}, Namespace: "ns", Slices: newSlicer(d)}
	done := make(chan error)
	go func() { done <- create(t, h, bundle(t, slicing("1g.18gb")), "c") }()
	bar, err := os.OpenFile(r.run("barred", bus), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Claim("ns", "c"); err != nil || c.Slices == nil || len(c.Slices.Modes) != 1 {
		t.Errorf("while it is looked for GPUs the claim is %+v, %v", c, err)
	}
	_, err = bar.WriteString(`{"boot":"another"}`)
	if err := errors.Join(err, os.Remove(r.run("barred", bus)), bar.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
