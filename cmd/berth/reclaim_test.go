// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"berth/gpu"
	"berth/gpu/mps"
	"berth/gpu/nvml"
	"berth/test/fakedriver"
)

// brokenDaemon puts one on record that no sweep can stop, since nobody can read which it is.
func brokenDaemon(t *testing.T, r gpu.Roots) {
	t.Helper()
	dir := leftDaemon(t, r, "broken", mps.Process{})
	if err := os.WriteFile(filepath.Join(dir, "record.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What cannot be done about an MPS daemon keeps nobody from the MIG devices, and is told by the exit
// status in either form.
func TestReclaimBesideABrokenDaemon(t *testing.T) {
	_, r := host(t, fakedriver.Config{GPUs: 1})
	brokenDaemon(t, r)
	dir := helper(t, nil, nvml.MIGReport{Actions: []nvml.MIGAction{{BusID: "0000:3b:00.0", ID: "r", State: "Ready", Did: nvml.Destroyed, Why: "its owner is gone"}}})
	for _, args := range [][]string{{"gpu", "reclaim"}, {"gpu", "reclaim", "--json"}} {
		out, _, err := berth(t, args...)
		if !errors.Is(err, errMPSLeft) || errors.Is(err, errLeft) {
			t.Errorf("%v: the error is %v", args, err)
		}
		says(t, out, "broken", "destroyed", "its owner is gone")
		if err := os.Remove(filepath.Join(dir, "asked")); err != nil {
			t.Errorf("%v: the MIG devices were not swept: %v", args, err)
		}
	}
}

// What was done about MPS daemons is told also where the MIG devices cannot be swept.
func TestReclaimWithoutNVML(t *testing.T) {
	_, r := host(t, fakedriver.Config{GPUs: 1})
	for _, args := range [][]string{{"gpu", "reclaim"}, {"gpu", "reclaim", "--json"}} {
		leftDaemon(t, r, "dead", mps.Process{PID: os.Getpid(), StartTime: 1})
		out, _, err := berth(t, args...)
		if err == nil || errors.Is(err, errMPSLeft) {
			t.Errorf("%v: the error is %v; there is no NVML here", args, err)
		}
		says(t, out, "dead", "stopped", "its containers are gone")
		var told reclaimed
		if len(args) < 3 {
			continue
		}
		if e := json.Unmarshal([]byte(out), &told); e != nil || told.Error != err.Error() || len(told.MPS) != 1 || told.Actions == nil {
			t.Errorf("%s, %v", out, e)
		}
	}
}
