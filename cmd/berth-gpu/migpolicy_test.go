// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
)

// A GPU that is another's is left alone, and the error says whose it is or what to do.
func TestLeftAlone(t *testing.T) {
	owner := func(text string) func(*rig, *wire.MIGRequest) {
		return func(r *rig, _ *wire.MIGRequest) {
			dir := filepath.Join(r.run, "gpu/mig", r.read().GPUs[0].BusID)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				r.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "owner"), []byte(text), 0o600); err != nil {
				r.Fatal(err)
			}
		}
	}
	off := fakenvml.Machine(fakenvml.H200, 1)
	for _, c := range []struct {
		name   string
		state  fakenvml.State
		change func(*rig, *wire.MIGRequest)
		code   string // "" if there is a slice
		says   string
	}{
		{"owner file", sliced(fakenvml.H200, 1), owner("gpu.nvidia.com DRA driver\n"), wire.CodeHeld, "held by gpu.nvidia.com DRA driver"},
		{"owner file of ours", sliced(fakenvml.H200, 1), owner("berth\n"), "", ""},
		{"owner file that is empty", sliced(fakenvml.H200, 1), owner(""), wire.CodeHeld, "held by somebody"},
		{"not in the configuration", sliced(fakenvml.H200, 1),
			func(_ *rig, q *wire.MIGRequest) { q.GPUs = []wire.GPURule{{BusID: "0000:ff:00.0"}} }, "ERROR_NOT_FOUND", "0000:ff:00.0"},
		{"foreign instances", shared(), func(_ *rig, q *wire.MIGRequest) { q.ShareForeign = false }, wire.CodeHeld, "GPU instance 5 at 2:2"},
		{"our instances are not foreign", sliced(fakenvml.H200, 1),
			func(r *rig, q *wire.MIGRequest) { r.acquire(r.request(r.me("b"), ask1g(1))); q.ShareForeign = false }, "", ""},
		{"mode off", off, func(*rig, *wire.MIGRequest) {}, wire.CodeMIGOff, "`nvidia-smi -i 0 -mig 1`"},
		{"mode off, and allowed", off, allowMode, "", ""},
		{"mode off on Ampere", fakenvml.Machine(fakenvml.A100, 1), allowMode, wire.CodeMIGOff, "takes a reset"},
		{"mode off, and in use", inUse(off), allowMode, wire.CodeMIGOff, "end them first"},
		{"mode off, and held", off, func(r *rig, q *wire.MIGRequest) { allowMode(r, q); owner("dcgm")(r, q) }, wire.CodeHeld, "held by dcgm"},
		{"mode refused", refusingMode(off), allowMode, wire.CodeMIGOff, "GPU requires reset"},
		{"no MIG", fakenvml.Machine(fakenvml.T4, 1), func(*rig, *wire.MIGRequest) {}, wire.CodeMIGOff, "no GPU that can do MIG"},
		{"no room", sliced(fakenvml.H200, 1), func(r *rig, q *wire.MIGRequest) { r.acquire(r.request(r.me("b"), ask1g(7))) },
			"ERROR_INSUFFICIENT_RESOURCES", "1g.18gb at 0:1 of ns/b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.state)
			profile := "1g.18gb"
			if c.state.GPUs[0].Model == fakenvml.A100 {
				profile = "1g.10gb"
			}
			q := r.request(r.me("a"), wire.MIGAsk{Profile: profile, Count: 1})
			c.change(r, q)
			before := r.read()
			_, failed, code := r.ask("acquire", q)
			if c.code == "" {
				if code != 0 {
					t.Errorf("exit status %d, %v", code, failed)
				}
				return
			}
			if failed == nil || failed.Code != c.code || !strings.Contains(failed.Message, c.says) {
				t.Errorf("the error is %v, want %s with %q", failed, c.code, c.says)
			}
			if after := r.read(); !reflect.DeepEqual(after, before) {
				t.Errorf("the machine became\n%+v\nit was\n%+v", after, before)
			}
		})
	}
}

func allowMode(r *rig, q *wire.MIGRequest) {
	q.GPUs = []wire.GPURule{{BusID: r.read().GPUs[0].BusID, AllowMode: true}}
}

func inUse(s fakenvml.State) fakenvml.State {
	s.Processes = []fakenvml.Process{{PID: os.Getpid(), Bytes: 1 << 20, GI: -1, CI: -1}}
	return s
}

func refusingMode(s fakenvml.State) fakenvml.State {
	s.Rules = []fakenvml.Rule{fault("nvmlDeviceSetMigMode", 16, -1)}
	return s
}

// Whatever call fails, what was made is undone, or swept once the call works again.
func TestEachCallFails(t *testing.T) {
	for _, symbol := range []string{
		"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetMigMode", "nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3",
		"nvmlDeviceGetMinorNumber", "nvmlDeviceGetGpuInstanceProfileInfoV", "nvmlDeviceGetGpuInstancePossiblePlacements_v2",
		"nvmlDeviceGetGpuInstances", "nvmlGpuInstanceGetInfo", "nvmlGpuInstanceGetComputeInstanceProfileInfo",
		"nvmlGpuInstanceGetComputeInstances", "nvmlComputeInstanceGetInfo_v2", "nvmlDeviceCreateGpuInstanceWithPlacement",
		"nvmlGpuInstanceCreateComputeInstance", "nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy",
	} {
		for name, value := range map[string]int{"unknown": unknown, "insufficient": 23, "in use": 19, "no permission": 4, "lost": lost} {
			t.Run(symbol+"/"+name, func(t *testing.T) {
				s := shared()
				r := newRig(t, s)
				s.Rules = []fakenvml.Rule{fault(symbol, value, -1)}
				r.write(s)
				q := r.request(r.me("a"), ask1g(1))
				q.TimeoutMS = 500
				_, failed, code := r.ask("acquire", q)
				late := strings.HasSuffix(symbol, "Destroy") || symbol == "nvmlGpuInstanceGetComputeInstances" // only a release calls it
				if code == 0 != late {
					t.Errorf("acquire: exit status %d, %v", code, failed)
				}
				if q.Asks = nil; code == 0 {
					r.ask("release", q)
				}
				r.unharmed(shared(), "with the fault")
				if named := failed != nil && (failed.Symbol == symbol || strings.Contains(failed.Message, symbol)); code != 0 && !named && value != 23 {
					t.Errorf("the error does not name it: %v", failed)
				}
				after := r.read()
				after.Rules = nil
				r.write(after)
				r.report("release", r.request(r.me("a")))
				r.report("sweep", r.request(nil))
				r.asAtFirst(shared(), "without the fault")
			})
		}
	}
}

func TestMIGList(t *testing.T) {
	s := shared()
	s.GPUs = append(s.GPUs, fakenvml.Machine(fakenvml.H200, 2).GPUs[1])
	r := newRig(t, s)
	made := r.acquire(r.request(r.me("a"), wire.MIGAsk{Profile: "1g.18gb", Count: 1}))
	out, failed, code := r.ask("ls", r.request(nil))
	if code != 0 {
		t.Fatalf("exit status %d, %v", code, failed)
	}
	l, err := wire.DecodeMIGList(out)
	if err != nil {
		t.Fatal(err)
	}
	g := l.GPUs[0]
	slices.SortFunc(g.Instances, func(a, b wire.MIGInstance) int { return a.Place.Start - b.Place.Start })
	if len(g.Instances) != 3 || g.Slots != 8 || g.Mode != wire.MIGEnabled {
		t.Fatalf("%+v", g)
	}
	ours := g.Instances[0]
	if ours.Owner == nil || ours.Owner.Container != "a" || ours.State != "Ready" || !reflect.DeepEqual(ours.UUIDs, []string{made[0].UUID}) || ours.Profile != "1g.18gb" {
		t.Errorf("ours is %+v", ours)
	}
	if g.Instances[1].Owner != nil || g.Instances[1].Profile != "2g.35gb" || g.Instances[2].Owner != nil {
		t.Errorf("foreign are %+v", g.Instances[1:])
	}
	if i := slices.Index(g.Fits, wire.MIGFit{Profile: "1g.18gb", Count: 3}); i < 0 {
		t.Errorf("fits: %+v", g.Fits)
	}
	if l.GPUs[1].Mode != wire.MIGDisabled || len(l.GPUs[1].Instances) != 0 {
		t.Errorf("the second is %+v", l.GPUs[1])
	}
}

func TestDryRun(t *testing.T) {
	r := newRig(t, shared())
	r.acquire(r.request(r.gone("a"), ask1g(2)))
	before, q := r.read(), r.request(nil)
	q.DryRun = true
	if deeds, report := r.report("sweep", q); !reflect.DeepEqual(deeds, []wire.Deed{wire.Destroyed, wire.Destroyed}) || report.Actions[0].Owner.Container != "a" {
		t.Errorf("%+v", report)
	}
	if after := r.read(); !reflect.DeepEqual(after, before) || len(r.records()) != 2 {
		t.Errorf("it did what it said: %+v", after)
	}
}

func TestBadRequests(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "no document": "{", "no run": `{"boot_id":"b","driver":{"version":"1","load":"1"},"timeout_ms":1}`,
		"an unknown restriction": `{"run":"/r","boot_id":"b","driver":{"version":"1","load":"1"},"timeout_ms":1,"only_gpu":3}`,
		"no owner":               `{"run":"/r","boot_id":"b","driver":{"version":"1","load":"1"},"timeout_ms":1,"asks":[{"profile":"x","count":1}]}`,
	} {
		cmd := exec.Command(helper, "mig", "acquire", "--library", library)
		var stderr bytes.Buffer
		cmd.Env, cmd.Stdin, cmd.Stderr = []string{}, strings.NewReader(text), &stderr
		_ = cmd.Run()
		if failed := wire.DecodeError(stderr.Bytes()); cmd.ProcessState.ExitCode() != 1 || failed == nil || failed.Code != wire.CodeBadRequest {
			t.Errorf("%s: %v, %s", name, cmd.ProcessState, &stderr)
		}
	}
	for _, args := range [][]string{{"mig"}, {"mig", "create"}, {"mig", "acquire", "x"}} {
		if cmd := exec.Command(helper, args...); cmd.Run() == nil || cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("%v: %v", args, cmd.ProcessState)
		}
	}
}
