// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"berth/gpu"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
	"berth/test/fakenvml"
)

// machine is one whose driver is compared.
type machine struct {
	roots   gpu.Roots
	version string // of the driver
	libDir  string // of the 64-bit libraries, below the driver root
	nvml    string // path of libnvidia-ml.so.1
	list    func(context.Context) (*nvml.List, error)
	fake    bool // its /proc and /sys must be put over the real ones for nvcdi
}

// fakeNVML is built once for all machines.
var fakeNVML string

// build makes a fake machine and the state that its NVML shows.
func build(t *testing.T, cfg fakedriver.Config) machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("no root: device nodes cannot be made")
	}
	cfg.NVML = fakeNVML
	dir := t.TempDir()
	d, err := fakedriver.Build(filepath.Join(dir, "root"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	state := stateOf(d, cfg)
	// The library looks for its state beside itself: by the path that it is loaded by.
	if err := state.Write(filepath.Join(d.Root, d.LibDir, fakenvml.StateFile)); err != nil {
		t.Fatal(err)
	}
	return machine{
		roots:   gpu.Roots{Driver: d.Root, Dev: d.Dev, Proc: d.Proc, Sys: d.Sys, Run: filepath.Join(dir, "run")},
		version: d.Version, libDir: d.LibDir, fake: true,
		nvml: filepath.Join(d.Root, d.LibDir, fakenvml.SONAME),
		list: func(context.Context) (*nvml.List, error) { return listOf(state), nil },
	}
}

// stateOf shows NVML the machine's GPUs. A GPU's MIG devices are 1g, one in each GPU instance.
func stateOf(d *fakedriver.Driver, cfg fakedriver.Config) fakenvml.State {
	s := fakenvml.State{Driver: d.Version, NVML: "12." + d.Version, CUDA: 12080}
	for i, g := range d.GPUs {
		if g.Excluded {
			continue
		}
		n := fakenvml.GPU{Model: fakenvml.Model(g.Model), UUID: g.UUID, BusID: g.BusID, Minor: g.Minor}
		if i < len(cfg.MIG) && len(cfg.MIG[i]) > 0 {
			n.MIG, n.Pending = true, true
			for slot, in := range cfg.MIG[i] {
				uuid := fmt.Sprintf("MIG-%08x-0000-5000-8000-%012x", i, slot)
				n.Instances = append(n.Instances, fakenvml.Instance{ID: in.GI, Profile: 19, Start: slot,
					Compute: []fakenvml.Compute{{ID: in.CI, UUID: uuid}}})
			}
		}
		s.GPUs = append(s.GPUs, n)
	}
	return s
}

// listOf is what the helper berth-gpu says of the same state.
func listOf(s fakenvml.State) *nvml.List {
	l := &nvml.List{DriverVersion: s.Driver}
	for i, g := range s.GPUs {
		d := nvml.Device{Index: i, UUID: g.UUID, BusID: g.BusID, Minor: g.Minor}
		for j, in := range g.Instances {
			d.MIG = append(d.MIG, nvml.MIG{Index: j, UUID: in.Compute[0].UUID, GI: in.ID, CI: in.Compute[0].ID})
		}
		l.Devices = append(l.Devices, d)
	}
	return l
}
