// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/mps"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// sharing is a spec that asks for MPS, with the mounts that CRI makes.
func sharingSpec(asks string) *specs.Spec {
	return changed(container("1"), func(s *specs.Spec) {
		s.Annotations[AnnotationPrefix+"mps"] = asks
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dev", Type: "tmpfs"}, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/sandbox/shm"})
	})
}

// listed has NVML know the GPUs of a fake driver.
func listed(d *fakedriver.Driver, edit func(*nvml.Device)) func(context.Context) (*nvml.List, error) {
	return func(context.Context) (*nvml.List, error) {
		l := &nvml.List{DriverVersion: d.Version}
		for _, g := range d.GPUs {
			known := nvml.Device{Index: g.Index, UUID: g.UUID, BusID: g.BusID, Minor: g.Minor, ComputeCapability: "9.0", Memory: 80 << 30}
			edit(&known)
			l.Devices = append(l.Devices, known)
		}
		return l, nil
	}
}

// TestMPSPlan has a seat put into a spec, byte for byte what a client needs.
func TestMPSPlan(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2})
	p := Planner{Roots: r, NVML: listed(d, func(*nvml.Device) {}), Sockets: []string{"mps"}}
	if err := os.MkdirAll(d.Root+"/tmp/nvidia-mps", 0o755); err != nil { // the host has a daemon too
		t.Fatal(err)
	}
	oci := sharingSpec("threads=25")
	var asked shared
	plan, err := p.plan(t.Context(), oci, supply{mps: func(_ context.Context, s shared) (*mps.Seat, error) {
		asked = s
		return &mps.Seat{Pipe: "/run/x/pipe", Shm: "/run/x/shm", Writable: []string{"control_lock"}, Hidden: []string{"control_privileged"}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if asked.Control != "/usr/bin/nvidia-cuda-mps-control" || !slices.Equal(asked.Devices, []string{d.GPUs[0].UUID}) || asked.Ask.Threads != 25 || asked.exclusive != nil {
		t.Errorf("it asks with %+v", asked)
	}
	plan.Apply(oci)
	var got []string
	for _, m := range oci.Mounts {
		if strings.Contains(m.Destination, "mps") && !strings.HasPrefix(m.Destination, "/usr") || m.Destination == "/dev/shm" {
			got = append(got, m.Source+" "+m.Destination+" "+m.Type+" "+strings.Join(m.Options, ","))
		}
	}
	const options = "nosuid,nodev,noexec,rbind,rprivate"
	want := []string{
		"/run/x/shm /dev/shm bind " + options,
		"/run/x/pipe /tmp/nvidia-mps bind ro," + options,
		"/run/x/pipe/control_lock /tmp/nvidia-mps/control_lock bind " + options,
		"/dev/null /tmp/nvidia-mps/control_privileged bind ro," + options,
	}
	if !slices.Equal(got, want) {
		t.Errorf("mounts\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Contains(oci.Process.Env, "CUDA_MPS_PIPE_DIRECTORY=/tmp/nvidia-mps") {
		t.Errorf("environment %q", oci.Process.Env)
	}
	if !has(paths(plan, "mps"), "threads=25") {
		t.Errorf("entries %+v", plan.Entries())
	}
}

// TestMPSPreview explains what would be done, and does nothing.
func TestMPSPreview(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	p := Planner{Roots: r, NVML: listed(d, func(*nvml.Device) {})}
	for _, s := range []*specs.Spec{sharingSpec("on"), changed(slicing("1g.18gb"), func(s *specs.Spec) { s.Annotations[AnnotationPrefix+"mps"] = "on" })} {
		plan, err := p.Plan(t.Context(), s)
		if err != nil || !has(paths(plan, "mps"), "on") {
			t.Errorf("%+v, %v", plan, err)
		}
	}
	if _, err := os.Stat(filepath.Join(r.Run, "gpu/mps")); err == nil {
		t.Error("there is a directory of daemons")
	}
}

func TestMPSElsewhere(t *testing.T) {
	for name, c := range map[string]struct {
		mounts []string
		want   string
	}{
		"free":   {nil, "/tmp/nvidia-mps"},
		"volume": {[]string{"/tmp"}, "/run/nvidia-mps"},
		"both":   {[]string{"/tmp", "/run"}, ""},
	} {
		s := container("1")
		for _, at := range c.mounts {
			mountOf("/volume", at)(s)
		}
		plan := new(Plan)
		err := plan.sit(s, &mps.Seat{Pipe: "/p", Shm: "/s"})
		if (err == nil) != (c.want != "") || err == nil && plan.mounts[1].what.Destination != c.want {
			t.Errorf("%s: %+v, %v", name, plan.mounts, err)
		}
	}
}

func TestMPSRefused(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1})
	for name, c := range map[string]struct {
		edit func(*nvml.Device)
		asks string
		says string
	}{
		"closed":          {func(n *nvml.Device) { n.ComputeMode = nvml.ComputeProhibited }, "on", "PROHIBITED"},
		"old":             {func(n *nvml.Device) { n.ComputeCapability = "6.1" }, "threads=25", "limits need 7.0"},
		"too much":        {func(*nvml.Device) {}, "memory=81GiB", "82944 MiB are asked for"},
		"nobody knows it": {func(n *nvml.Device) { n.BusID = "0000:ff:00.0" }, "on", "does not know the GPU"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Planner{Roots: r, NVML: listed(d, c.edit)}
			_, err := p.Plan(t.Context(), sharingSpec(c.asks))
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v, want one that says %q", err, c.says)
			}
		})
	}
	t.Run("old, without limits", func(t *testing.T) {
		p := Planner{Roots: r, NVML: listed(d, func(n *nvml.Device) { n.ComputeCapability = "6.1" })}
		if _, err := p.Plan(t.Context(), sharingSpec("on")); err != nil {
			t.Error(err)
		}
	})
	t.Run("no NVML", func(t *testing.T) {
		p := Planner{Roots: r, NVML: func(context.Context) (*nvml.List, error) { return nil, errors.New("as if") }}
		if _, err := p.Plan(t.Context(), sharingSpec("on")); err == nil || !strings.Contains(err.Error(), "compute mode") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("no daemon can be run", func(t *testing.T) {
		h := &Hook{Planner: Planner{Roots: r, NVML: listed(d, func(*nvml.Device) {})}, Namespace: "ns"}
		if err := create(t, h, bundle(t, sharingSpec("on")), "c"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("the error is %v", err)
		}
		if _, err := r.Claim("ns", "c"); !errdefs.IsNotFound(err) {
			t.Errorf("a claim is left: %v", err)
		}
	})
}

// TestMPSExclusive has a GPU that one process alone may have.
func TestMPSExclusive(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	gi := &Instance{GI: 3}
	owner := mps.Owner{Namespace: "ns", ID: "pod", Pod: true}
	for name, c := range map[string]struct {
		has     Holding
		mps     *HeldMPS
		refused bool
	}{
		"whole":               {Holding{BusID: d.GPUs[0].BusID}, nil, true},
		"another GPU":         {Holding{BusID: d.GPUs[1].BusID}, nil, false},
		"a slice of it":       {Holding{BusID: d.GPUs[0].BusID, MIG: gi}, nil, false},
		"with the daemon":     {Holding{BusID: d.GPUs[0].BusID}, &HeldMPS{Owner: owner}, false},
		"with another daemon": {Holding{BusID: d.GPUs[0].BusID}, &HeldMPS{Owner: mps.Owner{Namespace: "ns", ID: "b", Pod: true}}, true},
	} {
		if err := r.writeClaim(&Claim{Namespace: "ns", ID: "other", Devices: []Holding{c.has}, MPS: c.mps}); err != nil {
			t.Fatal(err)
		}
		s := shared{devices: []Selected{{Device: Device{BusID: d.GPUs[0].BusID}}}, exclusive: []string{d.GPUs[0].BusID}}
		s.Owner, s.ID = owner, "c"
		if err := h.unshared(s); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
		if s.exclusive = nil; h.unshared(s) != nil {
			t.Errorf("%s: refused though others may have the GPU", name)
		}
	}
}

func TestHostUser(t *testing.T) {
	for _, c := range []struct {
		uid  uint32
		maps []specs.LinuxIDMapping
		want int
	}{
		{1000, nil, 1000},
		{0, []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}, 100000},
		{1000, []specs.LinuxIDMapping{{ContainerID: 0, HostID: 5, Size: 1}, {ContainerID: 1, HostID: 100000, Size: 65536}}, 100999},
	} {
		s := &specs.Spec{Process: &specs.Process{User: specs.User{UID: c.uid}}, Linux: &specs.Linux{UIDMappings: c.maps}}
		if got := hostUser(s); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// TestMPSClaim has what is on record of a container with a daemon read back.
func TestMPSClaim(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 1})
	want := &HeldMPS{Owner: mps.Owner{Namespace: "ns", ID: "p", Pod: true}, Ask: mps.Ask{Memory: 5}, Control: "/usr/bin/x"}
	if err := r.writeClaim(&Claim{Namespace: "ns", ID: "c", MPS: want}); err != nil {
		t.Fatal(err)
	}
	got, err := r.Claim("ns", "c")
	if err != nil || got.MPS == nil || *got.MPS != *want {
		a, _ := json.Marshal(got)
		t.Errorf("%s, %v", a, err)
	}
}
