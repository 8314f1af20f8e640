// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	"berth/test/fakedriver"
)

// slicer makes MIG devices of a fake driver, as berth-gpu does.
type slicer struct {
	d     *fakedriver.Driver
	fails error
	check func()             // called while a slice is made
	made  map[SliceOwner]int // how often
	given map[SliceOwner]int
	has   map[string][]Slice // by group
	// usable are the GPUs that it was given last.
	usable []Device
	late   bool // a release came when its time was over
}

func newSlicer(d *fakedriver.Driver) *slicer {
	return &slicer{d: d, made: map[SliceOwner]int{}, given: map[SliceOwner]int{}, has: map[string][]Slice{}}
}

func (s *slicer) Acquire(_ context.Context, owner SliceOwner, _ string, asks []mig.Ask, usable []Device) ([]Slice, error) {
	s.usable = usable
	if s.check != nil {
		s.check()
	}
	if s.fails != nil {
		return nil, s.fails
	}
	group := owner.Group
	if has := s.has[group]; has != nil {
		return has, nil
	}
	owner.Group = ""
	s.made[owner]++
	gi := 7 + len(s.made)
	if err := s.d.AddInstance(0, fakedriver.Instance{GI: gi}); err != nil {
		return nil, err
	}
	s.has[group] = []Slice{{BusID: usable[0].BusID, GI: gi, UUID: fmt.Sprintf("MIG-%08d-2222-3333-4444-555555555555", gi), Profile: asks[0].Profile}}
	return s.has[group], nil
}

func (s *slicer) Release(ctx context.Context, owner SliceOwner) error {
	s.late = s.late || ctx.Err() != nil
	owner.Group = ""
	s.given[owner]++
	return s.fails
}

func slicing(asks string, more ...string) *specs.Spec {
	s := container("none")
	s.Annotations[AnnotationPrefix+"mig"] = asks
	for i := 0; i+1 < len(more); i += 2 {
		s.Annotations[more[i]] = more[i+1]
	}
	return s
}

// TestSliceLife has a slice made for a container, put into its spec, and given
// back when it is deleted, by another process as well.
func TestSliceLife(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	s.check = func() {
		if c, err := r.Claim("ns", "c"); err != nil || c.Slices == nil || c.Slices.Owner != (SliceOwner{Namespace: "ns", ID: "c", Group: c.Slices.Owner.Group}) {
			t.Errorf("while the slice is made its claim is %+v, %v", c, err)
		}
		all, err := ledger.Tenants(r.Run)
		if err != nil || len(all) != 1 || all[0].Container != "c" || all[0].PID != os.Getpid() || len(all[0].Cgroups) != 2 {
			t.Errorf("while the slice is made the tenants are %+v, %v", all, err)
		}
	}
	dir := bundle(t, slicing("1g.18gb"))
	if err := create(t, h, dir, "c"); err != nil {
		t.Fatal(err)
	}
	claim, err := r.Claim("ns", "c")
	if err != nil || len(claim.Devices) != 1 || claim.Devices[0].MIG == nil || claim.Devices[0].MIG.GI != 8 || claim.Slices == nil || len(claim.Slices.Made) != 1 {
		t.Fatalf("claim %+v, %v", claim, err)
	}
	config := read(t, dir+"/config.json")
	for _, minor := range []int{d.GPUs[0].AccessMinor(fakedriver.Instance{GI: 8, CI: fakedriver.NoCI}), d.GPUs[0].AccessMinor(fakedriver.Instance{GI: 8})} {
		if node := fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", minor); !strings.Contains(config, node) {
			t.Errorf("config.json lacks %s: %s", node, config)
		}
	}
	fresh := &Hook{Planner: h.Planner, Namespace: "ns", Slices: s}
	for range 2 {
		if err := fresh.Delete(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	}
	if all, err := ledger.Tenants(r.Run); err != nil || len(all) != 0 {
		t.Errorf("the tenants left are %+v, %v", all, err)
	}
	if owner := (SliceOwner{Namespace: "ns", ID: "c"}); s.given[owner] != 1 || s.made[owner] != 1 {
		t.Errorf("made %v, given back %v", s.made, s.given)
	}
}

// TestSliceShared has two containers of a pod use one slice, which is given back
// with the last of them.
func TestSliceShared(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	s := newSlicer(d)
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
	pod := SliceOwner{Namespace: "ns", ID: "p1", Pod: true}
	for _, id := range []string{"a", "b"} {
		spec := slicing("1g.18gb", AnnotationPrefix+"mig-share", "pod", criContainerType, "container", criSandboxID, "p1")
		if err := create(t, h, bundle(t, spec), id); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := r.Claim("ns", "a")
	b, err := r.Claim("ns", "b")
	if err != nil || s.made[pod] != 1 || a.Devices[0].MIG.UUID != b.Devices[0].MIG.UUID {
		t.Fatalf("made %v; %+v and %+v, %v", s.made, a, b, err)
	}
	for i, id := range []string{"a", "b"} {
		if err := h.Delete(t.Context(), id); err != nil {
			t.Error(err)
		}
		if s.given[pod] != i {
			t.Errorf("after %s it was given back %d times", id, s.given[pod])
		}
	}
}

// TestSliceFails leaves nothing of a container that cannot have its slice, or
// anything else.
func TestSliceFails(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	room := fmt.Errorf("no room: %w", errdefs.ErrResourceExhausted)
	for name, c := range map[string]struct {
		spec *specs.Spec
		with error
		want error
		gave int
	}{
		"no room":       {slicing("1g.18gb"), room, errdefs.ErrResourceExhausted, 1},
		"both":          {changed(slicing("1g.18gb"), func(s *specs.Spec) { s.Annotations[AnnotationPrefix+"gpu"] = "1" }), nil, errdefs.ErrInvalidArgument, 0},
		"share what":    {slicing("1g.18gb", AnnotationPrefix+"mig-share", "node", criSandboxID, "p"), nil, errdefs.ErrInvalidArgument, 0},
		"share no pod":  {slicing("1g.18gb", AnnotationPrefix+"mig-share", "pod"), nil, errdefs.ErrInvalidArgument, 0},
		"requirement":   {changed(slicing("1g.18gb"), func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "NVIDIA_REQUIRE_X=cuda>=99") }), nil, nil, 0},
		"not installed": {slicing("1g.18gb"), errors.New("-"), errdefs.ErrFailedPrecondition, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSlicer(d)
			s.fails = c.with
			h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns", Slices: s}
			if name == "not installed" {
				h.Slices = nil
			}
			err := create(t, h, bundle(t, c.spec), "c")
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("the error is %v, want %v", err, c.want)
			}
			total := 0
			for _, n := range s.given {
				total += n
			}
			if total != c.gave {
				t.Errorf("given back %v, want %d", s.given, c.gave)
			}
			if _, err := r.Claim("ns", "c"); !errdefs.IsNotFound(err) {
				t.Errorf("a claim is left: %v", err)
			}
		})
	}
}

// TestSlicePreview has `berth gpu explain` make nothing.
func TestSlicePreview(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 1})
	p := Planner{Roots: r}
	plan, err := p.Plan(t.Context(), slicing("3g.71gb"))
	if err != nil {
		t.Fatal(err)
	}
	if got := paths(plan, "mig"); len(got) != 1 || got[0] != "3g.71gb" {
		t.Errorf("entries %+v", plan.Entries())
	}
}

// TestSliceWanted has the cheap look find the request.
func TestSliceWanted(t *testing.T) {
	if !(Policy{}).Wanted([]byte(`{"annotations":{"berth.dev/mig.trainer":"1g"}}`)) {
		t.Error("the request is not seen")
	}
}
