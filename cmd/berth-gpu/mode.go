// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	wire "berth/gpu/nvml"
)

// turnOn turns MIG mode on where the configuration allows it, on Hopper and later (a reset that
// Ampere needs is not ours to do), and nothing runs. It says whether it did so for one.
func (t *transaction) turnOn() bool {
	for _, g := range t.gpus {
		if g.on || g.failed != nil || !slices.Contains(t.GPUs, wire.GPURule{BusID: g.BusID, AllowMode: true}) {
			continue
		}
		if why, err := t.leftAlone(g); err != nil || why != "" {
			continue
		}
		err := t.turnOnOne(g)
		if err == nil {
			return true
		}
		t.passOver(g, err)
	}
	return false
}

func (t *transaction) turnOnOne(g *slicedGPU) (retErr error) {
	l, err := t.lock(t.ctx, g)
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, t.unlock(l, g)) }()
	no := func(why string) error {
		return &wire.Error{Code: wire.CodeMIGOff, Message: fmt.Sprintf(
			"MIG mode of %v is off and cannot be turned on: %s; then `nvidia-smi -i %d -mig 1` does it", g, why, g.Index)}
	}
	arch, failed := get(g.lib, "nvmlDeviceGetArchitecture", g.handle.GetArchitecture)
	if failed != nil {
		return failed
	}
	if arch < nvml.DEVICE_ARCH_HOPPER || arch == nvml.DEVICE_ARCH_UNKNOWN {
		return no("before Hopper it takes a reset of the GPU, that an administrator plans")
	}
	processes, failed := get(g.lib, "nvmlDeviceGetComputeRunningProcesses_v3|nvmlDeviceGetComputeRunningProcesses_v2|nvmlDeviceGetComputeRunningProcesses",
		g.handle.GetComputeRunningProcesses)
	if failed != nil {
		return failed
	}
	if len(processes) > 0 {
		return no(fmt.Sprintf("process %d and %d others use it: end them first", processes[0].Pid, len(processes)-1))
	}
	was, failed := g.modes()
	if failed != nil || was.current == nvml.DEVICE_MIG_ENABLE { // somebody has been faster
		return asError(failed)
	}
	if failed := g.setMode(nvml.DEVICE_MIG_ENABLE); failed != nil {
		// What we left pending would come with the next reset, unasked. What was pending before is not
		// ours, nor is what is on now: somebody turned it on.
		now, unread := g.modes()
		if unread == nil && now.current != nvml.DEVICE_MIG_ENABLE && now.pending != was.pending {
			_ = g.setMode(was.pending)
		}
		return no(failed.Error())
	}
	return asError(g.read())
}

// modes are MIG mode as it is, and as it will be after the next reset.
type modes struct{ current, pending int }

func (g *slicedGPU) modes() (modes, *wire.Error) {
	return get(g.lib, "nvmlDeviceGetMigMode", func() (m modes, r nvml.Return) {
		m.current, m.pending, r = g.handle.GetMigMode()
		return m, r
	})
}

// setMode is done only if the driver has both taken the wish and fulfilled it.
func (g *slicedGPU) setMode(mode int) *wire.Error {
	status, failed := get(g.lib, "nvmlDeviceSetMigMode", func() (status, r nvml.Return) {
		status, r = g.handle.SetMigMode(mode)
		return status, r
	})
	if failed == nil {
		failed = g.lib.failure("nvmlDeviceSetMigMode", status)
	}
	return failed
}

// asError keeps a nil of NVML from being an error that is not nil.
func asError(failed *wire.Error) error {
	if failed == nil {
		return nil
	}
	return failed
}
