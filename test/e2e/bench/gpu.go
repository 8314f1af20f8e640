// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/configs"
	"berth/gpu"
	"berth/process"
	"berth/test/fakedriver"
)

// gpuBench compares the gpu shim with the pod shim, and containers that ask
// for GPUs with those that do not.
type gpuBench struct {
	*bench
	daemons sides // of the gpu shim and of the pod shim
	driver  *fakedriver.Driver
	conf    configs.GPU
	lower   string // the root file system of the containers, below their own layer
}

// request is what a container asks for.
type request struct{ name, gpus, capabilities string }

// nothing is asked for by containers that are not to be touched.
var nothing = request{name: "no request"}

// requests are the smallest and the largest that a machine of 8 GPUs gets.
var requests = [...]request{
	{"1 GPU", "1", "compute,utility"},
	{"8 GPUs, all capabilities", "all", "all"},
}

// newGPUBench builds a machine of 8 GPUs. Where that cannot be the caller closes
// b, which is left without a gpuBench.
func newGPUBench(b *bench) (_ *gpuBench, retErr error) {
	g := &gpuBench{bench: b, lower: filepath.Join(b.dir, "lower")}
	if err := g.image(); err != nil {
		return nil, err
	}
	var err error
	g.driver, err = fakedriver.Build(filepath.Join(b.dir, "driver"), fakedriver.Config{
		Model: fakedriver.H200, GPUs: 8, NVSwitch: true, FabricManager: true, Compat32: true,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, g.driver.Close())
		}
	}()
	// What is not said here is as on a real machine: the kernel's log is watched.
	config := fmt.Sprintf("driver_root = %q\ndev_root = %q\nproc_root = %q\nsys_root = %q\nrun_dir = %q\nhelper = %q\n",
		g.driver.Root, g.driver.Dev, g.driver.Proc, g.driver.Sys, filepath.Join(b.dir, "run"),
		filepath.Join(filepath.Dir(b.options.gpu), "berth-gpu"))
	path := filepath.Join(b.dir, "gpu.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if g.conf, err = configs.LoadGPU(path); err != nil {
		return nil, err
	}
	// The daemons hand their environment on to the shims, as containerd does.
	if err := os.Setenv("BERTH_GPU_CONFIG", path); err != nil {
		return nil, err
	}
	return g, b.add(&g.daemons, "g",
		side{name: "gpu", shim: b.options.gpu}, side{name: "pod", shim: b.options.shim})
}

// image makes the root file system: the payload, and what the loader of a
// glibc image looks at, so that its cache has to be merged.
func (g *gpuBench) image() error {
	for _, dir := range []string{"bin", "proc", "dev", "sys", "share", "tmp", "etc", "lib64", "usr/lib"} {
		if err := os.MkdirAll(filepath.Join(g.lower, dir), 0o755); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{
		g.payload: "bin/payload", "/etc/ld.so.cache": "etc/ld.so.cache",
		"/lib64/ld-linux-x86-64.so.2": "lib64/ld-linux-x86-64.so.2",
	} {
		data, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) && from != g.payload {
			continue // not a host of glibc
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(g.lower, to), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// asking is a container that asks for GPUs by annotation, with a layer of its
// own, as containerd gives it, and without any device that it is not given.
func (g *gpuBench) asking(r request) shape {
	edit := func(spec *specs.Spec) {
		spec.Root.Readonly = false
		spec.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
		if r != nothing {
			spec.Annotations[gpu.AnnotationPrefix+"gpu"] = r.gpus
			spec.Annotations[gpu.AnnotationPrefix+"gpu-capabilities"] = r.capabilities
		}
	}
	return shape{edit, g.layer}
}

// given is the same container with a spec that has been edited before: what it
// costs more than one that asks for nothing is the OCI runtime's.
func (g *gpuBench) given(ctx context.Context, r request) (shape, error) {
	sup := process.NewSupervisor()
	defer sup.Close()
	planner := gpu.NewPlanner(g.conf, sup)
	asking := g.asking(r)
	probe := &specs.Spec{Root: &specs.Root{}, Process: &specs.Process{}, Linux: &specs.Linux{}, Annotations: map[string]string{}}
	asking.edit(probe)
	plan, err := planner.Plan(ctx, probe)
	if err != nil {
		return shape{}, err
	}
	return shape{func(spec *specs.Spec) { asking.edit(spec); plan.Apply(spec) }, g.layer}, nil
}

// layer is an overlay as containerd's snapshotter has it, with its files in the
// bundle.
func (g *gpuBench) layer(bundle string) ([]*types.Mount, error) {
	upper, work := filepath.Join(bundle, "upper"), filepath.Join(bundle, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o700)); err != nil {
		return nil, err
	}
	return []*types.Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + g.lower, "upperdir=" + upper, "workdir=" + work,
	}}}, nil
}
