// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// container is a spec as containerd makes one, asking by an annotation.
func container(asks string) *specs.Spec {
	return &specs.Spec{
		Version:     "1.2.0",
		Root:        &specs.Root{Path: "rootfs"},
		Process:     &specs.Process{Env: []string{"PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all"}},
		Annotations: map[string]string{AnnotationPrefix + "gpu": asks},
		Mounts:      []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux:       &specs.Linux{Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}},
	}
}

func changed(s *specs.Spec, edit func(*specs.Spec)) *specs.Spec { edit(s); return s }

// paths are those of a plan's entries of one kind.
func paths(p *Plan, kind string) (out []string) {
	for _, e := range p.Entries() {
		if e.Kind == kind {
			out = append(out, e.Path)
		}
	}
	return out
}

func has(list []string, part string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
}

func TestPlanDevices(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 4, MIG: [][]fakedriver.Instance{nil, nil, nil, {{GI: 9, CI: 0}}}, Excluded: []int{1}})
	uuid := "MIG-11111111-2222-3333-4444-555555555555"
	p := Planner{Roots: r, NVML: func(context.Context) (*nvml.List, error) {
		return &nvml.List{Devices: []nvml.Device{{
			BusID: d.GPUs[3].BusID, UUID: d.GPUs[3].UUID, MIG: []nvml.MIG{{UUID: uuid, GI: 9, CI: 0}},
		}}}, nil
	}}
	node := func(i int) string { return "/" + d.GPUs[i].Node() }
	for name, c := range map[string]struct {
		asks string
		want []string // beside the control nodes
		err  error
	}{
		"one":      {"1", []string{node(0)}, nil},
		"count":    {"2", []string{node(0), node(2)}, nil},
		"too many": {"3", nil, errdefs.ErrNotFound},
		"index":    {"index:1", []string{node(2)}, nil}, // the excluded one has none
		"uuid":     {d.GPUs[2].UUID, []string{node(2)}, nil},
		"excluded": {d.GPUs[1].UUID, nil, errdefs.ErrFailedPrecondition},
		"unknown":  {"GPU-00000000-0000-0000-0000-000000000000", nil, errdefs.ErrNotFound},
		"mig":      {uuid, []string{node(3), "/dev/nvidia-caps/nvidia-cap"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := p.Plan(t.Context(), container(c.asks))
			if c.err != nil {
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.asks) {
					t.Fatalf("error %v, want %v that says what was asked", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := paths(plan, "device")
			for _, n := range append([]string{"/dev/nvidiactl", "/dev/nvidia-uvm"}, c.want...) {
				if !has(got, n) {
					t.Errorf("%s is not among %v", n, got)
				}
			}
			for i := range d.GPUs {
				if n := node(i); slices.Contains(got, n) && !slices.Contains(c.want, n) {
					t.Errorf("%s is given, and was not asked for", n)
				}
			}
		})
	}
}

func TestPlanApplies(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 1})
	p := Planner{Roots: r}
	spec := container("1")
	plan, err := p.Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan.Apply(spec)
	if want := []string{"PATH=/bin", "NVIDIA_CTK_LIBCUDA_DIR=/usr/local/nvidia/lib64", "NVIDIA_VISIBLE_DEVICES=void"}; !slices.Equal(spec.Process.Env, want) {
		t.Errorf("environment %q, want %q", spec.Process.Env, want)
	}
	allowed := spec.Linux.Resources.Devices
	if allowed[0].Allow || len(allowed) != 1+len(spec.Linux.Devices) || len(spec.Linux.Devices) != 4 {
		t.Errorf("%d nodes, and rules %+v", len(spec.Linux.Devices), allowed)
	}
	for i, d := range spec.Linux.Devices {
		if rule := allowed[i+1]; !rule.Allow || *rule.Major != d.Major || *rule.Minor != d.Minor || rule.Access != "rwm" {
			t.Errorf("node %+v has the rule %+v", d, rule)
		}
	}
	for _, m := range spec.Mounts[1:] {
		if !slices.Contains(m.Options, "ro") || !strings.HasPrefix(m.Source, r.Driver) && !strings.HasPrefix(m.Source, r.Run) {
			t.Errorf("mount %+v: not read-only, or not of the driver", m)
		}
	}
	before := len(spec.Mounts)
	plan.Apply(spec)
	if len(spec.Mounts) != before || len(spec.Linux.Devices) != 4 || len(spec.Linux.Resources.Devices) != len(allowed) {
		t.Error("applied twice it is not the same")
	}
}

// TestPlanKeepsOutOfVolumes has the user mount volumes where libraries go.
func TestPlanKeepsOutOfVolumes(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 1})
	p := Planner{Roots: r}
	for name, c := range map[string]struct {
		mount  string
		base   string
		hidden bool
	}{
		"none":       {"/data", "/usr/local/nvidia/", false},
		"parent":     {"/usr/local", "/opt/berth/nvidia/", false},
		"itself":     {"/usr/local/nvidia/", "/usr/local/berth/nvidia/", false},
		"inside":     {"/usr/local/nvidia/lib64/x", "/usr/local/berth/nvidia/", false},
		"similar":    {"/usr/local/nvidia-docs", "/usr/local/nvidia/", false},
		"etc":        {"/etc", "/usr/local/nvidia/", true},
		"etc's conf": {"/etc/ld.so.conf.d", "/usr/local/nvidia/", true},
		"a file":     {"/etc/hosts", "/usr/local/nvidia/", false},
		"programs":   {"/usr/bin", "/usr/local/nvidia/", false},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := p.Plan(t.Context(), changed(container("1"), func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: c.mount, Source: "/vol", Type: "bind"})
			}))
			if err != nil {
				t.Fatal(err)
			}
			if got := paths(plan, "mount"); !has(got, c.base+"lib64/libcuda.so.") {
				t.Errorf("no libcuda below %s: %q", c.base, got)
			}
			if plan.loader.hidden != c.hidden {
				t.Errorf("hidden: %v", plan.loader.hidden)
			}
			for _, p := range append(paths(plan, "link"), paths(plan, "mount")...) {
				if below(p, c.mount) {
					t.Errorf("%s lies in the volume %s", p, c.mount)
				}
			}
		})
	}
}

func TestPlanNeedsRoomForLibraries(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 1})
	_, err := (&Planner{Roots: r}).Plan(t.Context(), changed(container("1"), func(s *specs.Spec) {
		for _, base := range libraryBases {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: base, Source: "/vol", Type: "bind"})
		}
	}))
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "/usr/local/nvidia") {
		t.Errorf("error %v", err)
	}
}

func TestPlanCapabilities(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2, Compat32: true, Persistenced: true, FabricManager: true})
	p := Planner{Roots: r, Sockets: []string{"fabricmanager"}}
	for caps, want := range map[string]struct{ has, not []string }{
		"utility": {[]string{"libnvidia-ml.so.", "nvidia-smi", "nvidia-fabricmanager/socket"}, []string{"libcuda.so", "lib/libnvidia-ml", "nvidia-uvm", "libGLX", "persistenced/socket"}},
		"compute": {[]string{"libcuda.so.", "nvidia-uvm", "nvidia.icd"}, []string{"libGLX", "/dev/dri"}},
		"graphics": {[]string{"libGLX_nvidia.so.", fmt.Sprintf("/dev/dri/card%d", d.GPUs[0].Card), "10_nvidia.json", "GBM_BACKENDS_PATH=/usr/local/nvidia/lib64/gbm"},
			[]string{"libcuda.so.", fmt.Sprint("renderD", d.GPUs[1].Render)}},
		"video":            {[]string{"libnvcuvid.so."}, []string{"libcuda.so."}},
		"compute,compat32": {[]string{"lib/libcuda.so.", "lib64/libcuda.so."}, []string{"libGLX"}},
	} {
		t.Run(caps, func(t *testing.T) {
			plan, err := p.Plan(t.Context(), changed(container("1"), func(s *specs.Spec) { s.Annotations[AnnotationPrefix+"gpu-capabilities"] = caps }))
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, e := range plan.Entries() {
				all = append(all, e.Path)
			}
			for _, part := range want.has {
				if !has(all, part) {
					t.Errorf("no %s in %q", part, all)
				}
			}
			for _, part := range want.not {
				if has(all, part) {
					t.Errorf("%s is given, and is of no use for %s", part, caps)
				}
			}
		})
	}
}

// TestPlanRefuses says of each thing that can be wrong with a host what a
// person needs to know.
func TestPlanRefuses(t *testing.T) {
	nvmlSays := func(cuda string) func(context.Context) (*nvml.List, error) {
		return func(context.Context) (*nvml.List, error) { return &nvml.List{CUDAVersion: cuda}, nil }
	}
	for name, c := range map[string]struct {
		host fakedriver.Config
		edit func(*testing.T, *Planner, *specs.Spec)
		says []string
	}{
		"other libraries": {fakedriver.Config{LibVersion: "565.57.01"}, nil, []string{"570.124.06", "565.57.01"}},
		"no uvm":          {fakedriver.Config{UnloadedUVM: true}, nil, []string{"nvidia_uvm", "modprobe"}},
		"no fabric manager": {fakedriver.Config{GPUs: 8, NVSwitch: true}, nil,
			[]string{"fabric manager does not run", "systemctl start nvidia-fabricmanager", "ignore_fabric"}},
		"require": {fakedriver.Config{}, func(_ *testing.T, p *Planner, s *specs.Spec) {
			p.NVML = nvmlSays("12.8")
			s.Process.Env = append(s.Process.Env, "NVIDIA_REQUIRE_CUDA=cuda>=99.1")
		}, []string{"NVIDIA_REQUIRE_CUDA", "cuda>=99.1", "12.8", "NVIDIA_DISABLE_REQUIRE"}},
		"no helper": {fakedriver.Config{}, func(_ *testing.T, _ *Planner, s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "NVIDIA_REQUIRE_CUDA=cuda>=11")
		}, []string{"berth-gpu", "NVIDIA_DISABLE_REQUIRE"}},
		"barred": {fakedriver.Config{}, func(t *testing.T, p *Planner, _ *specs.Spec) {
			inv := discover(t, p.Roots)
			if err := SetBar(p.Roots, NewBar(Xid{BusID: inv.Devices[0].BusID, Number: 79})); err != nil {
				t.Fatal(err)
			}
		}, []string{"Xid 79"}},
		"capability": {fakedriver.Config{}, func(_ *testing.T, _ *Planner, s *specs.Spec) {
			s.Annotations[AnnotationPrefix+"gpu-capabilities"] = "teleport"
		}, []string{"teleport", "compute"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.host.GPUs == 0 {
				c.host.GPUs = 1
			}
			_, r := machine(t, c.host)
			p, spec := Planner{Roots: r}, container("index:0")
			if c.edit != nil {
				c.edit(t, &p, spec)
			}
			before, _ := json.Marshal(spec)
			_, err := p.Plan(t.Context(), spec)
			if err == nil {
				t.Fatal("it is not refused")
			}
			if !errors.Is(err, errdefs.ErrFailedPrecondition) && !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("error %v has no class that fits", err)
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v does not say %q", err, part)
				}
			}
			if after, _ := json.Marshal(spec); string(after) != string(before) {
				t.Error("the spec was edited")
			}
		})
	}
}

// TestFabricManagerRuns has it known by its socket, and by its pid file alone.
func TestFabricManagerRuns(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 8, NVSwitch: true, FabricManager: true})
	p := Planner{Roots: r}
	if _, err := p.Plan(t.Context(), container("1")); err != nil {
		t.Error(err)
	}
	_, r = machine(t, fakedriver.Config{GPUs: 8, NVSwitch: true})
	p = Planner{Roots: r}
	pid := filepath.Join(r.Driver, "run/nvidia-fabricmanager/nv-fabricmanager.pid")
	write(t, pid, "4242\n")
	if _, err := p.Plan(t.Context(), container("1")); err == nil {
		t.Error("the pid file of a dead fabric manager counts")
	}
	if err := os.Mkdir(filepath.Join(r.Proc, "4242"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Plan(t.Context(), container("1")); err != nil {
		t.Error(err)
	}
}

// TestRequirementsAskOnce has NVML asked once a boot, and again for a GPU that
// was not there, or did not answer.
func TestRequirementsAskOnce(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 3})
	asked := 0
	p := Planner{Roots: r, NVML: func(context.Context) (*nvml.List, error) {
		asked++
		list := &nvml.List{DriverVersion: d.Version, CUDAVersion: "12.8"}
		for i, g := range d.GPUs[:min(1+asked, len(d.GPUs))] {
			known := nvml.Device{Index: i, UUID: g.UUID, BusID: g.BusID, ComputeCapability: "9.0"}
			if i == asked { // the last is slow to come
				known.ComputeCapability, known.Error = "", &nvml.Error{Code: "ERROR_TIMEOUT"}
			}
			list.Devices = append(list.Devices, known)
		}
		return list, nil
	}}
	for _, c := range []struct {
		gpu   string
		asked int
	}{{"index:0", 1}, {"index:0", 1}, {"index:1", 2}, {"index:1", 2}, {"index:2", 3}, {"index:2", 3}, {"index:0,1,2", 3}} {
		if _, err := p.Plan(t.Context(), changed(container(c.gpu), func(s *specs.Spec) {
			s.Process.Env = append(s.Process.Env, "NVIDIA_REQUIRE_CUDA=cuda>=12.4", "NVIDIA_REQUIRE_ARCH=arch>=9.0")
		})); err != nil {
			t.Fatal(err)
		}
		if asked != c.asked {
			t.Errorf("%s: NVML was asked %d times, want %d", c.gpu, asked, c.asked)
		}
	}
}
