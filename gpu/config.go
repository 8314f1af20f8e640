// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"os"
	"path/filepath"

	"berth/configs"
	"berth/gpu/nvml"
	"berth/process"
)

// NewPlanner is a planner with the policy of this host. The helper that it
// asks is started by sup.
func NewPlanner(c configs.GPU, sup *process.Supervisor) Planner {
	helper := newHelper(c, sup)
	return Planner{
		Roots:   rootsOf(c),
		Policy:  Policy{EnvPlain: c.EnvPlain, EnvKubernetes: c.EnvKubernetes, VolumeMounts: c.VolumeMounts},
		Sockets: c.Sockets, CUDACompat: c.CUDACompat, IgnoreFabric: c.IgnoreFabric, Partitioned: c.MIG.GPUs, AllowMode: c.MIG.AllowMode,
		NVML: func(ctx context.Context) (*nvml.List, error) { return helper.List(ctx) },
	}
}

func rootsOf(c configs.GPU) Roots {
	return Roots{Driver: c.DriverRoot, Dev: c.DevRoot, Proc: c.ProcRoot, Sys: c.SysRoot, Run: c.RunDir}
}

func newHelper(c configs.GPU, sup *process.Supervisor) Helper {
	h := Helper{Path: c.Helper, DriverRoot: c.DriverRoot, Supervisor: sup}
	if h.Path == "" {
		h.Path = besideUs("berth-gpu")
	}
	return h
}

// NewMIG makes MIG devices by the policy of this host.
func NewMIG(c configs.GPU, sup *process.Supervisor) MIG {
	return MIG{Helper: newHelper(c, sup), Roots: rootsOf(c), Policy: c.MIG}
}

// besideUs is a program of the same installation as the one that runs.
func besideUs(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name // which cannot be started, and the error says so
	}
	return filepath.Join(filepath.Dir(self), name)
}

// NewHook is the hook of one shim. Where the configuration could not be loaded,
// broken is why: then the containers that ask for a GPU are refused.
func NewHook(c configs.GPU, broken error, namespace string, sup *process.Supervisor) *Hook {
	h := &Hook{Planner: NewPlanner(c, sup), Slices: NewMIG(c, sup), MPS: NewMPS(c, sup), KillWithMPS: c.MPS.OnDeath == "kill", Namespace: namespace, Xids: XidPolicy(c.Xid), Kmsg: c.Kmsg, Broken: broken}
	if broken == nil {
		h.Broken = h.Xids.Validate()
	}
	return h
}
