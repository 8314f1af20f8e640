// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// slicedGPU is a GPU that can do MIG, as a transaction uses it.
type slicedGPU struct {
	mig.GPU
	lib    *library // its own: see library.patient
	handle nvml.Device
	minor  int
	on     bool // MIG mode is on
	// failed is why the transaction passes over the GPU; nil if it does not.
	failed *wire.Error
	// closed is set where failed came of opening it: then nothing can be asked of it. What was made on
	// any other that failed can be undone.
	closed bool
	// busy is set where another transaction had its lock for long: the others come first.
	busy bool
}

// String is how people know the GPU.
func (g *slicedGPU) String() string {
	switch {
	case g.Index < 0:
		return "GPU " + g.BusID
	case g.BusID == "":
		return fmt.Sprintf("GPU %d", g.Index)
	}
	return fmt.Sprintf("GPU %d (%s)", g.Index, g.BusID)
}

// A call takes milliseconds, a second if it makes or destroys an instance, and under load some ten.
// A GPU may have so much of a transaction's time, but within these limits, before it is taken for
// hung, and the others have the rest.
const (
	patienceShare = 4
	leastPatience = 2 * time.Second
	mostPatience  = 15 * time.Second
)

func (t *transaction) patience() time.Duration {
	share := time.Duration(t.TimeoutMS) * time.Millisecond / patienceShare
	return min(max(share, leastPatience), mostPatience)
}

// gpu is the GPU at an address, which is asked what it is when it is needed first: a GPU that a
// transaction has nothing to do with can hang without harm to it.
func (t *transaction) gpu(busID string) *slicedGPU {
	if i := slices.IndexFunc(t.gpus, func(g *slicedGPU) bool { return g.BusID == busID }); i >= 0 {
		return t.gpus[i]
	}
	g := &slicedGPU{GPU: mig.GPU{BusID: busID, Index: -1}, lib: t.lib.patient(t.patience())}
	g.open(func(d *device) (nvml.Device, bool) {
		return must(d, "nvmlDeviceGetHandleByPciBusId_v2|nvmlDeviceGetHandleByPciBusId", func() (nvml.Device, nvml.Return) {
			return g.lib.DeviceGetHandleByPciBusId(busID)
		})
	})
	t.gpus = append(t.gpus, g)
	return g
}

// survey opens all GPUs that the request may use, by their indices. Those that cannot do MIG are left
// out; one that cannot be asked is no reason against the others.
func (t *transaction) survey() *wire.Error {
	if len(t.GPUs) > 0 {
		for _, rule := range t.GPUs {
			t.gpu(rule.BusID)
		}
	} else if failed := t.surveyAll(); failed != nil {
		return failed
	}
	// Others were opened for the sake of their records.
	t.gpus = slices.DeleteFunc(t.gpus, func(g *slicedGPU) bool { return g.failed == errNoMIG || !t.mayUse(g.BusID) })
	slices.SortStableFunc(t.gpus, func(a, b *slicedGPU) int { return cmp.Compare(a.Index, b.Index) })
	return nil
}

func (t *transaction) surveyAll() *wire.Error {
	count, failed := get(t.lib, "nvmlDeviceGetCount_v2|nvmlDeviceGetCount", t.lib.DeviceGetCount)
	if failed != nil {
		return failed
	}
	for i := range count {
		g := &slicedGPU{GPU: mig.GPU{Index: i}, lib: t.lib.patient(t.patience())}
		g.open(func(d *device) (nvml.Device, bool) {
			return must(d, "nvmlDeviceGetHandleByIndex_v2|nvmlDeviceGetHandleByIndex", func() (nvml.Device, nvml.Return) {
				return g.lib.DeviceGetHandleByIndex(i)
			})
		})
		if g.BusID == "" || !slices.ContainsFunc(t.gpus, func(o *slicedGPU) bool { return o.BusID == g.BusID }) {
			t.gpus = append(t.gpus, g)
		}
	}
	return nil
}

// errNoMIG is why a GPU is passed over that cannot do MIG.
var errNoMIG = &wire.Error{Code: "ERROR_NOT_SUPPORTED", Symbol: "nvmlDeviceGetMigMode", Message: "the GPU cannot do MIG"}

// open asks the GPU what it is.
func (g *slicedGPU) open(find func(*device) (nvml.Device, bool)) {
	d := device{lib: g.lib, Device: wire.Device{Minor: -1}}
	var ok bool
	if d.handle, ok = find(&d); ok {
		g.handle = d.handle
		if on, capable := g.readMode(&d); capable {
			g.on = on
			d.identify()
			g.UUID, g.minor = d.UUID, d.Minor
			if d.BusID != "" {
				g.BusID = d.BusID
			}
			if g.Index < 0 {
				g.Index, _ = must(&d, "nvmlDeviceGetIndex", d.handle.GetIndex)
			}
		} else if d.Error == nil {
			g.failed, g.closed = errNoMIG, true
			return
		}
	}
	g.failed, g.closed = d.Error, d.Error != nil
}

// readMode says whether MIG mode is on, and whether the GPU has one.
func (g *slicedGPU) readMode(d *device) (on, capable bool) {
	mode, ok := may(d, "nvmlDeviceGetMigMode", func() (int, nvml.Return) {
		current, _, r := g.handle.GetMigMode()
		return current, r
	})
	return mode == nvml.DEVICE_MIG_ENABLE, ok
}
