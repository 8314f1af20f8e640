// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// gpuHost is the driver that the gpu shim sees: the host's own, or a fake of a
// machine with two H200.
type gpuHost struct {
	dir  string
	fake *fakedriver.Driver // nil where the host has a driver
}

// newGPUHost makes what the gpu shim needs, in a directory of its own.
func newGPUHost() (_ *gpuHost, retErr error) {
	dir, err := os.MkdirTemp("", "berth-demo-gpu-")
	if err != nil {
		return nil, err
	}
	h := &gpuHost{dir: dir}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, h.close())
		}
	}()
	text := fmt.Sprintf("run_dir = %q\n", filepath.Join(dir, "run"))
	if _, err := os.Stat("/proc/driver/nvidia/version"); err != nil {
		if err := h.pretend(); err != nil {
			return nil, err
		}
		d := h.fake
		text += fmt.Sprintf("driver_root = %q\ndev_root = %q\nproc_root = %q\nsys_root = %q\nkmsg = ''\n", d.Root, d.Dev, d.Proc, d.Sys)
	}
	return h, os.WriteFile(h.config(), []byte(text), 0o600)
}

func (h *gpuHost) pretend() error {
	smi, err := fakedriver.BuildSMI(h.dir)
	if err != nil {
		return err
	}
	nvml, err := fakenvml.Build(h.dir)
	if err != nil {
		return err
	}
	h.fake, err = fakedriver.Build(filepath.Join(h.dir, "driver"), fakedriver.Config{Model: fakedriver.H200, GPUs: 2, SMI: smi, NVML: nvml})
	if err != nil {
		return err
	}
	state := fakenvml.State{Driver: h.fake.Version, NVML: "12." + h.fake.Version, CUDA: 12080}
	for _, g := range h.fake.GPUs {
		state.GPUs = append(state.GPUs, fakenvml.GPU{Model: fakenvml.Model(g.Model), UUID: g.UUID, BusID: g.BusID, Minor: g.Minor})
	}
	return state.Write(filepath.Join(h.fake.Root, h.fake.LibDir, fakenvml.StateFile))
}

func (h *gpuHost) config() string { return filepath.Join(h.dir, "gpu.toml") }

// env has containerd's shims, and berth, see this host.
func (h *gpuHost) env() string { return "BERTH_GPU_CONFIG=" + h.config() }

func (h *gpuHost) close() error {
	var err error
	if h.fake != nil {
		err = h.fake.Close()
	}
	return errors.Join(err, os.RemoveAll(h.dir))
}

// gpu runs a container with a GPU.
func (d *demo) gpu(ctx context.Context) error {
	const runtime = "io.containerd.gpu.v2"
	d.title("ctr run --runtime %s, on %s", runtime, d.gpus)
	if err := d.loadLibc(ctx); err != nil {
		return err
	}
	run := []string{"run", "--runtime", runtime, "--fifo-dir", d.node.FIFODir(), "--annotation", "berth.dev/gpu=1", libcImage, "cuda"}
	smi := append(append([]string{run[0], "--rm"}, run[1:]...), "sh", "-c", "ls -l /dev | grep nvidia; /usr/bin/nvidia-smi")
	if err := d.ctr(ctx, 0, smi...); err != nil {
		return err
	}
	background := append(append([]string{run[0], "-d"}, run[1:]...), "sleep", "1000")
	if err := d.ctr(ctx, 0, background...); err != nil {
		return err
	}
	listed, err := d.show(ctx, 0, "berth", "gpu", "ls")
	if err != nil {
		return err
	}
	if !strings.Contains(listed, "/cuda") {
		return errors.New("berth gpu ls: the container holds no GPU")
	}
	if _, err := d.show(ctx, 0, "berth", "gpu", "explain", "cuda"); err != nil {
		return err
	}
	if err := d.ctr(ctx, 0, "task", "kill", "--signal", "SIGKILL", "cuda"); err != nil {
		return err
	}
	if err := d.await(ctx, "cuda"); err != nil {
		return err
	}
	if err := d.ctr(ctx, 0, "task", "rm", "cuda"); err != nil {
		return err
	}
	return d.ctr(ctx, 0, "container", "rm", "cuda")
}

func (h *gpuHost) String() string {
	if h.fake != nil {
		return "a fake driver (this host has none)"
	}
	return "this host's driver"
}
