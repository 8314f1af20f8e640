// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"os/exec"
	"reflect"
	"strings"
	"testing"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// What NVML returns, by number (nvml.h).
const (
	notSupported = 3
	lost         = 15
	unknown      = 999
)

func fault(symbol string, value, gpu int) fakenvml.Rule {
	return fakenvml.Rule{Verb: fakenvml.Fault, Symbol: symbol, Value: value, GPU: gpu}
}

// A fault without which there is no list: exit status 1, and all that a person needs.
func TestFatalFaults(t *testing.T) {
	for _, c := range []struct {
		symbol string
		value  int
		want   wire.Error
		advice string
	}{
		{"nvmlInit_v2", 9, wire.Error{Code: "ERROR_DRIVER_NOT_LOADED", Message: "Driver Not Loaded"}, "modprobe nvidia"},
		{"nvmlInit_v2", 18, wire.Error{Code: "ERROR_LIB_RM_VERSION_MISMATCH", Message: "Driver/library version mismatch"}, "reboot"},
		{"nvmlInit_v2", 4, wire.Error{Code: "ERROR_NO_PERMISSION", Message: "Insufficient Permissions"}, "root"},
		{"nvmlSystemGetDriverVersion", unknown, wire.Error{Code: "ERROR_UNKNOWN", Message: "Unknown Error"}, ""},
		{"nvmlDeviceGetCount_v2", 77, wire.Error{Code: "ERROR_77", Message: "Unknown Error"}, ""},
	} {
		t.Run(c.symbol+"/"+c.want.Code, func(t *testing.T) {
			s := fakenvml.Machine(fakenvml.H100, 1)
			s.Rules = []fakenvml.Rule{fault(c.symbol, c.value, -1)}
			c.want.Symbol = c.symbol
			r := ask(t, machine(t, s), "list", "--library", library)
			if r.code != 1 || r.failed == nil || *r.failed != c.want || !strings.Contains(r.stderr, c.advice) {
				t.Errorf("exit status %d, %+v, want %+v and %q; stderr: %s", r.code, r.failed, c.want, c.advice, r.stderr)
			}
		})
	}
}

// A fault of one GPU is that GPU's; the others are listed as ever.
func TestDeviceFaults(t *testing.T) {
	for _, c := range []struct {
		symbol string
		value  int
		code   string             // "" if the GPU may lack it
		change func(*wire.Device) // what the GPU's entry is then
	}{
		{"nvmlDeviceGetHandleByIndex_v2", lost, "ERROR_GPU_IS_LOST", func(d *wire.Device) { *d = wire.Device{Index: 1, Minor: -1} }},
		{"nvmlDeviceGetUUID", unknown, "ERROR_UNKNOWN", func(d *wire.Device) { d.UUID = "" }},
		{"nvmlDeviceGetPciInfo_v3", unknown, "ERROR_UNKNOWN", func(d *wire.Device) { d.BusID = "" }},
		{"nvmlDeviceGetMinorNumber", notSupported, "ERROR_NOT_SUPPORTED", func(d *wire.Device) { d.Minor = -1 }},
		{"nvmlDeviceGetName", unknown, "ERROR_UNKNOWN", func(d *wire.Device) { d.Name = "" }},
		{"nvmlDeviceGetBrand", notSupported, "", func(d *wire.Device) { d.Brand = "" }},
		{"nvmlDeviceGetArchitecture", notSupported, "", func(d *wire.Device) { d.Architecture = "" }},
		{"nvmlDeviceGetCudaComputeCapability", lost, "ERROR_GPU_IS_LOST", func(d *wire.Device) { d.ComputeCapability = "" }},
		{"nvmlDeviceGetMemoryInfo", notSupported, "", func(d *wire.Device) { d.Memory = 0 }},
		{"nvmlDeviceGetMigMode", notSupported, "", func(d *wire.Device) { d.MIGMode = "" }},
		{"nvmlDeviceGetMigMode", unknown, "ERROR_UNKNOWN", func(d *wire.Device) { d.MIGMode = "" }},
	} {
		t.Run(c.symbol+c.code, func(t *testing.T) {
			s := fakenvml.Machine(fakenvml.H200, 3)
			s.Rules = []fakenvml.Rule{fault(c.symbol, c.value, 1)}
			got, expect := listed(t, library, s), want(s, models[fakenvml.H200])
			c.change(&expect.Devices[1])
			if c.code != "" {
				if e := got.Devices[1].Error; e == nil || e.Code != c.code || e.Symbol != c.symbol {
					t.Errorf("the device's error is %v, want %s of %s", e, c.code, c.symbol)
				}
				got.Devices[1].Error = nil
			}
			equal(t, got, expect)
		})
	}
}

func TestLostGPU(t *testing.T) {
	s := fakenvml.Machine(fakenvml.A100, 8)
	s.GPUs[0].Lost = true
	got := listed(t, library, s)
	if e := got.Devices[0].Error; e == nil || e.Code != "ERROR_GPU_IS_LOST" || e.Message != "GPU is lost" {
		t.Errorf("the lost GPU's error is %v", e)
	}
	if !reflect.DeepEqual(got.Devices[1:], want(s, models[fakenvml.A100]).Devices[1:]) {
		t.Errorf("the others are %+v", got.Devices[1:])
	}
}

// MIG devices come and go while they are listed; other errors are the GPU's.
func TestMIGFaults(t *testing.T) {
	for _, c := range []struct {
		symbol string
		value  int
		code   string
	}{
		{"nvmlDeviceGetMaxMigDeviceCount", unknown, "ERROR_UNKNOWN"},
		{"nvmlDeviceGetMigDeviceHandleByIndex", unknown, "ERROR_UNKNOWN"},
		{"nvmlDeviceGetGpuInstanceId", 6, ""},     // NOT_FOUND: it was destroyed just now
		{"nvmlDeviceGetComputeInstanceId", 2, ""}, // INVALID_ARGUMENT: its handle is stale
		{"nvmlDeviceGetComputeInstanceId", lost, "ERROR_GPU_IS_LOST"},
	} {
		t.Run(c.symbol+c.code, func(t *testing.T) {
			s := partitioned()
			s.Rules = []fakenvml.Rule{fault(c.symbol, c.value, -1)}
			d := listed(t, library, s).Devices[1]
			if len(d.MIG) != 0 || d.MIGMode != wire.MIGEnabled || (d.Error == nil) != (c.code == "") {
				t.Errorf("listed %+v, with error %v", d, d.Error)
			}
			if d.Error != nil && d.Error.Code != c.code {
				t.Errorf("the error is %v, want %s", d.Error, c.code)
			}
		})
	}
}

// A driver that ends the process is told from one that answers: no document, no Failure.
func TestDriverEndsTheHelper(t *testing.T) {
	s := fakenvml.Machine(fakenvml.T4, 1)
	s.Rules = []fakenvml.Rule{{Verb: fakenvml.Exit, Symbol: "nvmlDeviceGetUUID", Value: 9, GPU: -1}}
	if r := ask(t, machine(t, s), "list", "--library", library); r.code != 9 || r.failed != nil || r.list != nil {
		t.Errorf("exit status %d, %v, %v", r.code, r.failed, r.list)
	}
}

// Each symbol that a driver may lack, really missing from the library: never a crash.
func TestMissingSymbols(t *testing.T) {
	entry := func(change func(*wire.Device)) func(*wire.List) {
		return func(l *wire.List) {
			for i := range l.Devices {
				change(&l.Devices[i])
			}
		}
	}
	none := func(*wire.List) {}
	for _, c := range []struct {
		without []string
		change  func(*wire.List) // of the whole list; nil: it fails, naming the last of without
	}{
		{[]string{"nvmlInit_v2", "nvmlInit"}, nil},
		{[]string{"nvmlSystemGetDriverVersion"}, nil},
		{[]string{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"}, nil},
		{[]string{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}, nil},
		{[]string{"nvmlDeviceGetUUID"}, nil},
		{[]string{"nvmlDeviceGetMinorNumber"}, nil},
		{[]string{"nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"}, nil},
		// go-nvml falls back by itself.
		{[]string{"nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetPciInfo_v3"}, none},
		{[]string{"nvmlErrorString", "nvmlShutdown"}, none},
		{[]string{"nvmlSystemGetNVMLVersion"}, func(l *wire.List) { l.NVMLVersion = "" }},
		{[]string{"nvmlSystemGetCudaDriverVersion"}, func(l *wire.List) { l.CUDAVersion = "" }},
		{[]string{"nvmlDeviceGetName"}, entry(func(d *wire.Device) { d.Name = "" })},
		{[]string{"nvmlDeviceGetBrand"}, entry(func(d *wire.Device) { d.Brand = "" })},
		{[]string{"nvmlDeviceGetArchitecture"}, entry(func(d *wire.Device) { d.Architecture = "" })},
		{[]string{"nvmlDeviceGetCudaComputeCapability"}, entry(func(d *wire.Device) { d.ComputeCapability = "" })},
		{[]string{"nvmlDeviceGetMemoryInfo"}, entry(func(d *wire.Device) { d.Memory = 0 })},
		{[]string{"nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex"},
			entry(func(d *wire.Device) { d.MIGMode = "" })},
	} {
		last := c.without[len(c.without)-1]
		t.Run(last, func(t *testing.T) {
			t.Parallel() // most of it is the compiler's time
			lib, err := fakenvml.Build(t.TempDir(), c.without...)
			if err != nil {
				t.Fatal(err)
			}
			s := fakenvml.Machine(fakenvml.H200, 2)
			if c.change == nil {
				r := ask(t, machine(t, s), "list", "--library", lib)
				if r.code != 1 || r.failed == nil || r.failed.Code != "ERROR_FUNCTION_NOT_FOUND" || r.failed.Symbol != last {
					t.Errorf("exit status %d, %v; stderr: %s", r.code, r.failed, r.stderr)
				}
				return
			}
			expect := want(s, models[fakenvml.H200])
			c.change(expect)
			equal(t, listed(t, lib, s), expect)
		})
	}
}

// Without its sentences an error still has a code.
func TestErrorWithoutErrorString(t *testing.T) {
	lib, err := fakenvml.Build(t.TempDir(), "nvmlErrorString")
	if err != nil {
		t.Fatal(err)
	}
	s := fakenvml.Machine(fakenvml.H200, 1)
	s.Rules = []fakenvml.Rule{fault("nvmlInit_v2", 9, -1)}
	r := ask(t, machine(t, s), "list", "--library", lib)
	if r.code != 1 || r.failed == nil || *r.failed != (wire.Error{Code: "ERROR_DRIVER_NOT_LOADED", Symbol: "nvmlInit_v2", Message: "ERROR_DRIVER_NOT_LOADED"}) {
		t.Errorf("exit status %d, %+v; stderr: %s", r.code, r.failed, r.stderr)
	}
}

// The tests above mean something only if the helper takes NVML from the library, at run time.
func TestFakeIsTheLibraryAsked(t *testing.T) {
	out, err := exec.Command("nm", "-D", "--undefined-only", helper).CombinedOutput()
	if err != nil {
		t.Skipf("nm (binutils) is missing: %v", err)
	}
	if !strings.Contains(string(out), "nvmlDeviceGetBrand") {
		t.Errorf("the helper does not take NVML's functions from the library:\n%.400s", out)
	}
}
