// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/nvidia-container-toolkit/pkg/nvcdi"
	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu"
	"berth/test/fakedriver"
)

// A spec that containerd has edited by a CDI spec of nvcdi's keeps its edits. What its hooks would
// do is carried out by Berth, and the hooks are gone: no program of the host runs.
func TestEdited(t *testing.T) {
	m := build(t, fakedriver.Config{GPUs: 2})
	spec := theirs(t, m, nvcdi.ModeNvml, "0")
	nvidia := theirsIn(t, m, spec)
	p := gpu.Planner{Roots: m.roots}
	plan, err := p.Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan.Apply(spec)
	for _, list := range [][]rspec.Hook{spec.Hooks.CreateRuntime, spec.Hooks.CreateContainer} {
		for _, h := range list {
			t.Errorf("hook is still there: %q", h.Args)
		}
	}
	v := view{m: m}
	done := theirsIn(t, m, spec)
	for _, e := range plan.Entries() {
		path := v.short(m.lib(strings.TrimPrefix(e.Path, m.roots.Driver)))
		switch e.Kind {
		case "link":
			done["link "+path] = v.short("to " + e.From)
		case "loader":
			done["loader "+strings.TrimSuffix(m.lib(e.Path+"/"), "/")] = yes
		case "file":
			done["profile "+path] = yes
		}
	}
	for _, name := range slices.Sorted(maps.Keys(nvidia)) {
		if !strings.HasPrefix(name, "hook ") && done[name] != nvidia[name] {
			t.Errorf("%s: %q, after Berth %q", name, nvidia[name], done[name])
		}
	}
}

// The limits of GPU memory are set through NVML, by NVIDIA's program; where a container asks for
// none that program does nothing, and is not needed.
func TestEditedWithLimits(t *testing.T) {
	m := build(t, fakedriver.Config{})
	spec := theirs(t, m, nvcdi.ModeNvml, "0")
	spec.Process.Env = append(spec.Process.Env, "NVIDIA_GPU_MEMORY_LIMIT=1024")
	p := gpu.Planner{Roots: m.roots}
	plan, err := p.Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	plan.Apply(spec)
	if h := spec.Hooks.CreateRuntime; len(h) != 1 || h[0].Args[1] != "apply-cuda-memory-limits" {
		t.Errorf("hooks that are left: %+v", h)
	}
}
