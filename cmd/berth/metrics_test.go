// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"berth/gpu/ledger"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

var (
	sampleLine = regexp.MustCompile(`^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$`)
	helpLine   = regexp.MustCompile(`^# HELP ([a-z_]+) (.+)$`)
	typeLine   = regexp.MustCompile(`^# TYPE ([a-z_]+) (gauge|counter)$`)
)

// parse reads Prometheus' text format as strictly as promtool does: a family is in one piece, with
// its help and type first; no sample is there twice; a counter is called _total, nothing else is.
func parse(text string) (map[string]float64, error) {
	samples, families, family := map[string]float64{}, map[string]string{}, ""
	for line := range strings.Lines(text) {
		line, whole := strings.CutSuffix(line, "\n")
		help, kind, sample := helpLine.FindStringSubmatch(line), typeLine.FindStringSubmatch(line), sampleLine.FindStringSubmatch(line)
		switch {
		case !whole:
			return nil, fmt.Errorf("the last line has no end: %s", line)
		case help != nil:
			if family = help[1]; families[family] != "" {
				return nil, fmt.Errorf("the family %s is there twice", family)
			}
			families[family] = "untyped"
		case kind != nil:
			if kind[1] != family || families[family] != "untyped" || strings.HasSuffix(family, "_total") != (kind[2] == "counter") {
				return nil, fmt.Errorf("type of %s: %s", family, line)
			}
			families[family] = kind[2]
		case sample != nil:
			value, err := strconv.ParseFloat(sample[3], 64)
			key := sample[1] + "{" + sample[2] + "}"
			if _, twice := samples[key]; err != nil || twice || sample[1] != family || families[family] == "untyped" {
				return nil, fmt.Errorf("sample %s of family %s: %v", line, family, err)
			}
			samples[key] = value
		default:
			return nil, fmt.Errorf("not understood: %q", line)
		}
	}
	return samples, nil
}

// TestExposition has each thing that can be in a GPU counted once.
func TestExposition(t *testing.T) {
	one := func(gi int, profile string, start, size int, state string, life ledger.Life) nvml.MIGInstance {
		in := nvml.MIGInstance{GI: gi, Profile: profile, Place: nvml.Place{Start: start, Size: size}, State: state, Life: string(life)}
		if state != "" {
			in.Owner = &nvml.Owner{Container: "c"}
		}
		return in
	}
	list := &nvml.MIGList{GPUs: []nvml.MIGGPU{
		{UUID: "GPU-a", Mode: nvml.MIGEnabled, Slots: 8, Torn: []string{"x"}, Fits: []nvml.MIGFit{{Profile: "1g.18gb", Count: 1}, {Profile: "3g.71gb"}},
			Instances: []nvml.MIGInstance{
				one(1, "1g.18gb", 0, 1, "Ready", ledger.Served), one(2, "1g.18gb", 1, 1, "Ready", ledger.Orphaned), one(3, "1g.18gb", 2, 1, "Ready", ledger.Gone),
				one(4, "1g.18gb", 3, 1, "Zombie", ledger.Gone), one(5, "1g.18gb", 4, 1, "Idle", ledger.Gone), one(6, "odd\"\\\n", 5, 1, "", ""), one(7, "1g.18gb", 6, 1, "GICreated", ""),
			}},
		{UUID: "GPU-b", Mode: nvml.MIGDisabled, Slots: 8},
		{UUID: "GPU-c", Mode: nvml.MIGEnabled, Error: &nvml.Error{Code: "ERROR_GPU_IS_LOST"}},
	}}
	got, err := parse(string(exposition(list, true, []ledger.Refusal{{Profile: "3g.71gb", Reason: "room", Count: 7}})))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]float64{
		`berth_gpu_mig_up{}`: 1, `berth_gpu_mig_enabled{gpu="GPU-a"}`: 1, `berth_gpu_mig_enabled{gpu="GPU-b"}`: 0,
		`berth_gpu_mig_readable{gpu="GPU-a"}`: 1, `berth_gpu_mig_readable{gpu="GPU-c"}`: 0,
		`berth_gpu_mig_slices{gpu="GPU-a",profile="1g.18gb",state="allocated"}`: 1, `berth_gpu_mig_slices{gpu="GPU-a",profile="1g.18gb",state="orphaned"}`: 1,
		`berth_gpu_mig_slices{gpu="GPU-a",profile="1g.18gb",state="making"}`: 1, `berth_gpu_mig_slices{gpu="GPU-a",profile="1g.18gb",state="releasing"}`: 1,
		`berth_gpu_mig_slices{gpu="GPU-a",profile="1g.18gb",state="zombie"}`: 1, `berth_gpu_mig_slices{gpu="GPU-a",profile="1g.18gb",state="idle"}`: 1,
		`berth_gpu_mig_slices{gpu="GPU-a",profile="1g.18gb",state="foreign"}`: 0, `berth_gpu_mig_slices{gpu="GPU-a",profile="odd\"\\\n",state="foreign"}`: 1,
		`berth_gpu_mig_slices{gpu="GPU-a",profile="3g.71gb",state="allocated"}`: 0, `berth_gpu_mig_free_slices{gpu="GPU-a",profile="1g.18gb"}`: 1,
		`berth_gpu_mig_memory_slices{gpu="GPU-a",state="free"}`: 1, `berth_gpu_mig_memory_slices{gpu="GPU-a",state="allocated"}`: 1,
		`berth_gpu_mig_torn_records{gpu="GPU-a"}`: 1, `berth_gpu_mig_refused_total{profile="3g.71gb",reason="room"}`: 7,
	} {
		if value, ok := got[key]; !ok || value != want {
			t.Errorf("%s is %v (there: %v), want %v", key, value, ok, want)
		}
	}
	if got[`berth_gpu_mig_memory_slices{gpu="GPU-b",state="free"}`] != 0 {
		t.Error("a GPU out of MIG mode has free slices")
	}
}

// Each state of the ledger is one of a slice of ours, and idle ones are no foreigners' either.
func TestStatesOfTheLedger(t *testing.T) {
	for state, want := range map[ledger.State]string{
		ledger.Intent: "making", ledger.GICreated: "making", ledger.CIIntent: "making", ledger.Ready: "allocated",
		ledger.Releasing: "releasing", ledger.Zombie: "zombie", ledger.Idle: "idle", "": "foreign",
	} {
		if got := stateOf(nvml.MIGInstance{State: string(state), Life: string(ledger.Served)}); got != want {
			t.Errorf("%q is counted as %s, want %s", state, got, want)
		}
	}
}

// TestMetricsOfLostGPUs has each of them counted as itself, also those of which nobody has a record
// or knows the UUID.
func TestMetricsOfLostGPUs(t *testing.T) {
	d, _ := host(t, fakedriver.Config{GPUs: 4})
	lost := &nvml.Error{Code: "ERROR_GPU_IS_LOST", Symbol: "nvmlDeviceGetHandleByIndex_v2", Message: "GPU is lost"}
	well := nvml.Device{Index: 0, UUID: d.GPUs[0].UUID, BusID: d.GPUs[0].BusID}
	helper(t, &nvml.List{DriverVersion: d.Version, Devices: []nvml.Device{well, {Index: 1, Minor: -1, Error: lost}, {Index: 2, Minor: -1, Error: lost}}},
		nvml.MIGList{GPUs: []nvml.MIGGPU{
			{Index: 0, UUID: d.GPUs[0].UUID, BusID: d.GPUs[0].BusID, Mode: nvml.MIGEnabled, Slots: 8},
			{Index: -1, BusID: d.GPUs[1].BusID, Error: lost}, {Index: -1, BusID: d.GPUs[2].BusID, Error: lost},
		}})
	out, _, err := berth(t, "gpu", "metrics")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(out)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range d.GPUs {
		readable, ok := got[`berth_gpu_mig_readable{gpu="`+g.UUID+`"}`]
		if !ok || readable != number(i == 0) {
			t.Errorf("GPU %d is readable: %v (there: %v)", i, readable, ok)
		}
		if _, ok := got[`berth_gpu_mig_enabled{gpu="`+g.UUID+`"}`]; ok != (i == 0) {
			t.Errorf("GPU %d tells of its mode: %v", i, ok)
		}
	}
	nameless := &nvml.MIGList{GPUs: []nvml.MIGGPU{{Index: -1, BusID: "0000:01:00.0", Error: lost}, {Index: -1, BusID: "0000:02:00.0", Error: lost}}}
	if _, err := parse(string(exposition(nameless, true, nil))); err != nil {
		t.Error(err)
	}
}

// TestMetrics has the file written whole where NVML cannot be asked, and the error told.
func TestMetrics(t *testing.T) {
	_, r := host(t, fakedriver.Config{GPUs: 1})
	if err := ledger.Refuse(r.Run, "1g.18gb", "driver"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "berth.prom")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := berth(t, "gpu", "metrics", "--output", file); err == nil || out != "" {
		t.Errorf("%s, %v: there is no NVML here", out, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(string(text))
	if up, ok := got["berth_gpu_mig_up{}"]; err != nil || !ok || up != 0 || got[`berth_gpu_mig_refused_total{profile="1g.18gb",reason="driver"}`] != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v: node_exporter could not read it", info.Mode(), err)
	}
	if _, _, err := berth(t, "gpu", "metrics", "--output", filepath.Join(dir, "no/file")); err == nil {
		t.Error("a directory that is not there is written to")
	}
}

// TestShippedRules has the example of alerts use metrics, labels and states that there are.
func TestShippedRules(t *testing.T) {
	rules, err := os.ReadFile("../../configs/prometheus-rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(exposition(new(nvml.MIGList), true, nil))
	used := regexp.MustCompile(`berth_gpu_[a-z_]+`).FindAllString(string(rules), -1)
	for _, name := range used {
		if !strings.Contains(text, "# TYPE "+name+" ") {
			t.Errorf("%s is no metric", name)
		}
	}
	for _, m := range regexp.MustCompile(`state="([a-z]+)"`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(strings.Join(states[:], " ")+" free", m[1]) {
			t.Errorf("%s is no state", m[1])
		}
	}
	if len(used) < 5 {
		t.Errorf("the example uses %v", used)
	}
}
