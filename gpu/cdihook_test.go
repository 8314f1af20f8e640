// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/fakedriver"
)

func cdiHookOf(args ...string) specs.Hook {
	return specs.Hook{Path: "/usr/bin/nvidia-cdi-hook", Args: append([]string{"nvidia-cdi-hook"}, args...)}
}

func TestParseCDIHook(t *testing.T) {
	for name, c := range map[string]struct {
		hook       specs.Hook
		understood bool
		links      []Link
		folders    []string
		compat     string
	}{
		"links": {cdiHookOf("create-symlinks", "--link", "libcuda.so.1::/usr/lib/libcuda.so", "--link=../a::/usr/lib/gbm/b"), true,
			[]Link{{Path: "/usr/lib/libcuda.so", Target: "libcuda.so.1"}, {Path: "/usr/lib/gbm/b", Target: "../a"}}, nil, ""},
		"ldcache": {cdiHookOf("update-ldcache", "--folder", "/usr/lib", "--ldconfig-path=/sbin/ldconfig", "--folder=/usr/lib/vdpau"), true,
			nil, []string{"/usr/lib", "/usr/lib/vdpau"}, ""},
		"compat": {cdiHookOf("enable-cuda-compat", "--host-driver-version=570.124.06"), true, nil, nil, "570.124.06"},
		"nvidia-ctk": {specs.Hook{Path: "/opt/nvidia-ctk", Args: []string{"nvidia-ctk", "hook", "update-ldcache", "--folder", "/l"}}, true,
			nil, []string{"/l"}, ""},
		"params":              {cdiHookOf("disable-device-node-modification"), true, nil, nil, ""},
		"chmod as runc does":  {cdiHookOf("chmod", "--mode", "755", "--path", "/dev/dri"), true, nil, nil, ""},
		"chmod of other":      {cdiHookOf("chmod", "--mode", "777", "--path", "/dev/dri"), false, nil, nil, ""},
		"chmod elsewhere":     {cdiHookOf("chmod", "--mode", "755", "--path", "/etc"), false, nil, nil, ""},
		"unknown command":     {cdiHookOf("update-application-profile", "--x", "1"), false, nil, nil, ""},
		"unknown flag":        {cdiHookOf("update-ldcache", "--folder", "/l", "--new", "1"), false, nil, nil, ""},
		"a link without ends": {cdiHookOf("create-symlinks", "--link", "libcuda.so"), false, nil, nil, ""},
		"a relative link":     {cdiHookOf("create-symlinks", "--link", "a::usr/lib/b"), false, nil, nil, ""},
		"flag without value":  {cdiHookOf("update-ldcache", "--folder"), false, nil, nil, ""},
		"an argument":         {cdiHookOf("update-ldcache", "folder"), false, nil, nil, ""},
		"no command":          {cdiHookOf(), false, nil, nil, ""},
		"no arguments":        {specs.Hook{Path: "/nvidia-cdi-hook"}, false, nil, nil, ""},
		"another's":           {specs.Hook{Path: "/bin/true", Args: []string{"true", "update-ldcache"}}, false, nil, nil, ""},
		"nvidia-ctk for else": {specs.Hook{Path: "/nvidia-ctk", Args: []string{"nvidia-ctk", "cdi"}}, false, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := parseCDIHook(c.hook)
			if ok != c.understood {
				t.Fatalf("understood: %v", ok)
			}
			if ok && (!slices.Equal(got.links, c.links) || !slices.Equal(got.folders, c.folders) || got.compat != c.compat) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestPlanEdited has containerd's CDI begin an injection: what it did stays,
// and its hooks are carried out, but for one that is not understood.
func TestPlanEdited(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 2})
	lib := filepath.Join(d.Root, d.LibDir, "libcuda.so."+d.Version)
	spec := changed(container("2"), func(s *specs.Spec) {
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/" + d.GPUs[1].Node(), Type: "c"}}
		s.Mounts = append(s.Mounts, specs.Mount{Source: lib, Destination: "/usr/lib/nv/libcuda.so." + d.Version})
		s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{
			cdiHookOf("create-symlinks", "--link", "libcuda.so.1::/usr/lib/nv/libcuda.so"),
			cdiHookOf("update-ldcache", "--folder", "/usr/lib/nv"),
			{Path: "/bin/mine"},
			cdiHookOf("update-application-profile"),
		}}
	})
	mounts, devices := len(spec.Mounts), len(spec.Linux.Devices)
	plan, err := (&Planner{Roots: r}).Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan.Apply(spec)
	if len(spec.Mounts) != mounts || len(spec.Linux.Devices) != devices {
		t.Error("something was injected a second time")
	}
	var left []string
	for _, h := range spec.Hooks.CreateContainer {
		left = append(left, strings.Join(append([]string{h.Path}, h.Args...), " "))
	}
	if len(left) != 2 || left[0] != "/bin/mine" || !strings.Contains(left[1], "update-application-profile") {
		t.Errorf("hooks left: %q", left)
	}
	if got, want := paths(plan, "link"), []string{"/usr/lib/nv/libcuda.so", "/usr/lib/nv/libcuda.so.1"}; !slices.Equal(got, want) {
		t.Errorf("links %q, want %q", got, want)
	}
	if len(plan.loader.libraries) != 1 || plan.loader.libraries[0].Soname != "libcuda.so.1" {
		t.Errorf("the loader finds %+v", plan.loader.libraries)
	}
	if h := plan.Holdings(); len(h) != 1 || h[0].BusID != d.GPUs[1].BusID {
		t.Errorf("held: %+v", h)
	}
	if err := SetBar(r, NewBar(Xid{BusID: d.GPUs[1].BusID, Number: 79})); err != nil {
		t.Fatal(err)
	}
	spec.Hooks.CreateContainer = append(spec.Hooks.CreateContainer, cdiHookOf("update-ldcache"))
	if _, err := (&Planner{Roots: r}).Plan(t.Context(), spec); err == nil {
		t.Error("a barred GPU is given by way of CDI")
	}
}

// TestPlanEditedMIG has CDI give a MIG device.
func TestPlanEditedMIG(t *testing.T) {
	d, r := machine(t, fakedriver.Config{GPUs: 1, MIG: [][]fakedriver.Instance{{{GI: 9, CI: 0}, {GI: 11, CI: 0}}}})
	inv := discover(t, r)
	nodes, err := inv.InstanceNodes(inv.Devices[0], inv.Devices[0].MIG[1])
	if err != nil {
		t.Fatal(err)
	}
	spec := changed(container("1"), func(s *specs.Spec) {
		for _, n := range nodes {
			s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: n.Path})
		}
		s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{cdiHookOf("update-ldcache", "--folder", "/l")}}
	})
	plan, err := (&Planner{Roots: r}).Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if h := plan.Holdings(); len(h) != 1 || h[0].BusID != d.GPUs[0].BusID || h[0].MIG == nil || h[0].MIG.GI != 11 {
		t.Errorf("held: %+v", h)
	}
}
