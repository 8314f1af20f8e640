// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// timeout is far beyond what any list takes.
const timeout = 30 * time.Second

// want is what the fake's model is known to be, from the machine that was written.
func want(s fakenvml.State, template wire.Device) *wire.List {
	l := &wire.List{DriverVersion: "570.133.20", NVMLVersion: "12.570.133.20", CUDAVersion: "12.8"}
	for i, g := range s.GPUs {
		d := template
		d.Index, d.UUID, d.BusID, d.Minor = i, g.UUID, g.BusID, g.Minor
		l.Devices = append(l.Devices, d)
	}
	return l
}

var models = map[fakenvml.Model]wire.Device{
	fakenvml.T4: {Name: "Tesla T4", Brand: "tesla", Architecture: "turing", ComputeCapability: "7.5", Memory: 15360 << 20},
	fakenvml.A10040: {Name: "NVIDIA A100-SXM4-40GB", Brand: "nvidia", Architecture: "ampere", ComputeCapability: "8.0",
		Memory: 40960 << 20, MIGMode: wire.MIGDisabled},
	fakenvml.A100: {Name: "NVIDIA A100-SXM4-80GB", Brand: "nvidia", Architecture: "ampere", ComputeCapability: "8.0",
		Memory: 81920 << 20, MIGMode: wire.MIGDisabled},
	fakenvml.H100: {Name: "NVIDIA H100 80GB HBM3", Brand: "nvidia", Architecture: "hopper", ComputeCapability: "9.0",
		Memory: 81559 << 20, MIGMode: wire.MIGDisabled},
	fakenvml.H200: {Name: "NVIDIA H200", Brand: "nvidia", Architecture: "hopper", ComputeCapability: "9.0",
		Memory: 143771 << 20, MIGMode: wire.MIGDisabled},
}

func equal(t *testing.T, got, want *wire.List) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("listed\n%+v\nwant\n%+v", got, want)
	}
}

func TestList(t *testing.T) {
	for model, template := range models {
		for _, n := range []int{0, 1, 8} {
			t.Run(string(model)+"/"+string(rune('0'+n)), func(t *testing.T) {
				s := fakenvml.Machine(model, n)
				expect := want(s, template)
				if n == 0 {
					expect.Devices = []wire.Device{}
				}
				equal(t, listed(t, library, s), expect)
			})
		}
	}
}

const (
	mig0 = "MIG-00000000-1111-5222-8333-444444444444"
	mig1 = "MIG-11111111-1111-5222-8333-444444444444"
	mig2 = "MIG-22222222-1111-5222-8333-444444444444"
)

// partitioned is a machine whose second GPU has 3g with a 1c and a 2c in it, and 1g+me.
func partitioned() fakenvml.State {
	s := fakenvml.Machine(fakenvml.H200, 2)
	s.GPUs[1].MIG = true
	s.GPUs[1].Instances = []fakenvml.Instance{
		{ID: 2, Profile: 9, Start: 4, Compute: []fakenvml.Compute{
			{ID: 0, Profile: 0, Start: 0, UUID: mig0}, {ID: 1, Profile: 1, Start: 1, UUID: mig1}}},
		{ID: 11, Profile: 20, Start: 0, Compute: []fakenvml.Compute{{UUID: mig2}}},
	}
	return s
}

func TestListMIG(t *testing.T) {
	s := partitioned()
	expect := want(s, models[fakenvml.H200])
	expect.Devices[1].MIGMode = wire.MIGEnabled
	expect.Devices[1].MIG = []wire.MIG{
		{Index: 0, UUID: mig0, GI: 2, CI: 0, Profile: "1c.3g.71gb"},
		{Index: 1, UUID: mig1, GI: 2, CI: 1, Profile: "2c.3g.71gb"},
		{Index: 2, UUID: mig2, GI: 11, CI: 0, Profile: "1g.18gb+me"},
	}
	equal(t, listed(t, library, s), expect)
}

func TestComputeModes(t *testing.T) {
	s := fakenvml.Machine(fakenvml.H200, 3)
	s.GPUs[1].ComputeMode, s.GPUs[2].ComputeMode = 2, 3
	expect := want(s, models[fakenvml.H200])
	expect.Devices[1].ComputeMode, expect.Devices[2].ComputeMode = wire.ComputeProhibited, wire.ComputeExclusive
	equal(t, listed(t, library, s), expect)
}

func TestBusIDs(t *testing.T) {
	s := fakenvml.Machine(fakenvml.T4, 1)
	for in, out := range map[string]string{
		"00000000:3B:00.0": "0000:3b:00.0",
		"00010000:A1:1F.7": "10000:a1:1f.7",
		"0008:02:00.0":     "0008:02:00.0",
	} {
		s.GPUs[0].BusID = in
		r := ask(t, machine(t, s), "list", "--library", library)
		if r.list == nil || r.list.Devices[0].BusID != out {
			t.Errorf("%s became %+v, want %s", in, r, out)
		}
	}
}

// The helper is started by several shims at once, also while another slows the driver down.
func TestTwoAtOnce(t *testing.T) {
	s := partitioned()
	s.Rules = []fakenvml.Rule{{Verb: fakenvml.Delay, Symbol: "nvmlInit_v2", Value: 50_000, GPU: -1}}
	env := machine(t, s)
	var wg sync.WaitGroup
	lists := make([]*wire.List, 4)
	for i := range lists {
		wg.Go(func() { lists[i] = ask(t, env, "list", "--library", library).list })
	}
	wg.Wait()
	for _, l := range lists {
		if l == nil || len(l.Devices) != 2 || len(l.Devices[1].MIG) != 3 {
			t.Errorf("listed %+v", l)
		}
	}
}

func TestLinking(t *testing.T) {
	out, err := exec.Command("readelf", "-dW", helper).CombinedOutput()
	if err != nil {
		t.Skipf("readelf (binutils) is missing: %v", err)
	}
	if strings.Contains(string(out), "NOW") {
		t.Errorf("bound at start, so no driver with fewer symbols can be asked:\n%s", out)
	}
	if !strings.Contains(string(out), "(NEEDED)") || strings.Contains(string(out), "nvidia") {
		t.Errorf("it needs the loader, and no driver to start:\n%s", out)
	}
}

func BenchmarkList(b *testing.B) {
	for name, n := range map[string]int{"1": 1, "8": 8} {
		b.Run(name, func(b *testing.B) {
			path := b.TempDir() + "/state"
			if err := fakenvml.Machine(fakenvml.H200, n).Write(path); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if r := ask(b, []string{"BERTH_FAKE_NVML=" + path}, "list", "--library", library); r.list == nil {
					b.Fatal(r.stderr)
				}
			}
		})
	}
}
