// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// helper has a program in the place of berth-gpu that gives these answers.
func helper(t *testing.T, list *nvml.List, mig any) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := "#!/bin/sh\ncase $1 in list) cat " + dir + "/list;; mig) cat >" + dir + "/asked; cat " + dir + "/mig;; esac\n"
	err := os.WriteFile(filepath.Join(dir, "helper"), []byte(text), 0o700)
	for name, answer := range map[string]any{"list": list, "mig": mig} {
		raw, e := json.Marshal(answer)
		err = errors.Join(err, e, os.WriteFile(filepath.Join(dir, name), raw, 0o600))
	}
	config, e := os.OpenFile(os.Getenv("BERTH_GPU_CONFIG"), os.O_APPEND|os.O_WRONLY, 0)
	if err := errors.Join(err, e); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(config, "helper = %q\n", filepath.Join(dir, "helper"))
	if err := errors.Join(err, config.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is to be said, or given up as well, is what berth-gpu is asked for.
func TestReclaimAsks(t *testing.T) {
	for args, want := range map[string]nvml.MIGRequest{
		"": {}, "--dry-run": {DryRun: true}, "--idle": {GiveUpIdle: true}, "--dry-run --idle --json": {DryRun: true, GiveUpIdle: true},
	} {
		host(t, fakedriver.Config{GPUs: 1})
		dir := helper(t, nil, nvml.MIGReport{Actions: []nvml.MIGAction{}})
		if _, _, err := berth(t, append([]string{"gpu", "reclaim"}, strings.Fields(args)...)...); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		var q nvml.MIGRequest
		raw, err := os.ReadFile(filepath.Join(dir, "asked"))
		if err := errors.Join(err, json.Unmarshal(raw, &q)); err != nil {
			t.Fatal(err)
		}
		if q.DryRun != want.DryRun || q.GiveUpIdle != want.GiveUpIdle {
			t.Errorf("%s: asked %+v", args, q)
		}
	}
}

// What reclaim could not do is told, as a table and as JSON, and by the exit status.
func TestReclaim(t *testing.T) {
	owner := &nvml.Owner{Namespace: "ns", Container: "c", Group: "g", PID: 1, StartTime: 1}
	action := func(did nvml.Deed, why string) nvml.MIGAction {
		return nvml.MIGAction{BusID: "0000:3b:00.0", ID: "r", State: "Ready", Owner: owner, Place: nvml.Place{Start: 2, Size: 2}, Did: did, Why: why}
	}
	for name, c := range map[string]struct {
		actions []nvml.MIGAction
		left    bool
		says    string
	}{
		"nothing":     {nil, false, "no record"},
		"all":         {[]nvml.MIGAction{action(nvml.Destroyed, "its owner is gone"), action(nvml.Kept, "its owner lives")}, false, "destroyed"},
		"in use":      {[]nvml.MIGAction{action(nvml.Zombie, "in use by 7"), action(nvml.Destroyed, "")}, true, "left, in use"},
		"unreachable": {[]nvml.MIGAction{action(nvml.Unreached, "GPU is lost")}, true, "GPU is lost"},
	} {
		t.Run(name, func(t *testing.T) {
			host(t, fakedriver.Config{GPUs: 1})
			helper(t, nil, nvml.MIGReport{Actions: c.actions})
			out, _, err := berth(t, "gpu", "reclaim")
			if errors.Is(err, errLeft) != c.left || err != nil && !c.left {
				t.Errorf("the error is %v", err)
			}
			says(t, out, c.says)
			out, _, err = berth(t, "gpu", "reclaim", "--json")
			var report nvml.MIGReport
			if e := json.Unmarshal([]byte(out), &report); e != nil || len(report.Actions) != len(c.actions) || errors.Is(err, errLeft) != c.left {
				t.Errorf("%s, %v, %v", out, e, err)
			}
		})
	}
}

// Nobody else removes the claim of a container whose bundle has gone.
func TestReclaimForgetsClaims(t *testing.T) {
	_, r := host(t, fakedriver.Config{GPUs: 1})
	helper(t, nil, nvml.MIGReport{})
	dir := filepath.Join(r.Run, "gpu", "claims")
	err := os.MkdirAll(dir, 0o700)
	for name, bundle := range map[string]string{"here": t.TempDir(), "gone": filepath.Join(dir, "none")} {
		claim := fmt.Sprintf(`{"namespace":"ns","id":%q,"bundle":%q}`, name, bundle)
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "ns:"+name+".json"), []byte(claim), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		arg  string
		want int
	}{{"--dry-run", 2}, {"--json", 1}} {
		if _, _, err := berth(t, "gpu", "reclaim", step.arg); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != step.want {
			t.Errorf("after %s: %v, %v", step.arg, left, err)
		}
	}
}

func TestReclaimWithoutDriver(t *testing.T) {
	t.Setenv("BERTH_GPU_CONFIG", "/nonexistent")
	if _, err := os.Stat("/proc/driver/nvidia"); err == nil {
		t.Skip("missing capability: a host without an NVIDIA driver")
	}
	if _, _, err := berth(t, "gpu", "reclaim"); err == nil || !strings.Contains(err.Error(), "driver is not loaded") {
		t.Errorf("error %v", err)
	}
}

// A GPU that is lost is not well, and what it had is still told.
func TestListOfALostGPU(t *testing.T) {
	d, _ := host(t, fakedriver.Config{GPUs: 2})
	lost := &nvml.Error{Code: "ERROR_GPU_IS_LOST", Symbol: "nvmlDeviceGetHandleByIndex_v2", Message: "GPU is lost"}
	well := nvml.Device{Index: 0, UUID: d.GPUs[0].UUID, BusID: d.GPUs[0].BusID}
	owner := &nvml.Owner{Namespace: "ns", Container: "sliced", Group: "g", PID: 1, StartTime: 1}
	helper(t, &nvml.List{DriverVersion: d.Version, Devices: []nvml.Device{well, {Index: 1, Minor: -1, Error: lost}}},
		nvml.MIGList{GPUs: []nvml.MIGGPU{{Index: -1, BusID: d.GPUs[1].BusID, Error: lost, Slots: 4,
			Instances: []nvml.MIGInstance{{GI: 3, Profile: "2g.35gb", Place: nvml.Place{Start: 2, Size: 2}, Owner: owner, State: "Ready"}}}}})
	out, _, err := berth(t, "gpu", "ls")
	if err != nil {
		t.Fatal(err)
	}
	says(t, out, "ERROR_GPU_IS_LOST", "MIG of GPU "+d.GPUs[1].BusID, "ns/sliced", "2g.35gb at 2:2")
	for line := range strings.Lines(out) {
		if strings.Contains(line, d.GPUs[0].BusID) && !strings.Contains(line, " ok ") || strings.Contains(line, d.GPUs[1].BusID) && strings.Contains(line, " ok ") {
			t.Errorf("health: %s", line)
		}
	}
}
