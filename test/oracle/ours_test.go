// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"testing"

	rspec "github.com/opencontainers/runtime-spec/specs-go"

	"berth/configs"
	"berth/gpu"
)

// ours is the same container under Berth, as a host without a configuration has it, with the plan
// for what is not in a spec.
func ours(t *testing.T, m machine, env ...string) (*rspec.Spec, []gpu.Entry) {
	t.Helper()
	c := configs.DefaultGPU()
	p := gpu.Planner{
		Roots: m.roots, Policy: gpu.Policy{EnvPlain: c.EnvPlain}, Sockets: c.Sockets, CUDACompat: c.CUDACompat,
		IgnoreFabric: true, NVML: m.list,
	}
	spec := container(append(env, "NVIDIA_DRIVER_CAPABILITIES=all")...)
	plan, err := p.Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	spec.Process.Env = nil // of the request
	plan.Apply(spec)
	return spec, plan.Entries()
}
