// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"berth/gpu"
	"berth/gpu/mps"
	"berth/process"
	"berth/test/fakedriver"
)

// leftDaemon puts a daemon on record whose shim and containers are gone, or live.
func leftDaemon(t *testing.T, r gpu.Roots, name string, shim mps.Process) string {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	ns, err := process.PIDNamespace()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(r.Run, "gpu/mps", name)
	rec, err := json.Marshal(mps.Record{
		Owner: mps.Owner{Namespace: "ns", ID: name, Pod: true}, State: mps.Ready, BootID: string(boot[:len(boot)-1]), PIDNamespace: ns, Ask: mps.Ask{Threads: 25},
		Devices: []string{"GPU-x"}, Shim: shim, Members: []mps.Member{{ID: "c"}}, Daemon: shim,
	})
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "record.json"), rec, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestMPS shows the daemons, and stops those that nobody uses.
func TestMPS(t *testing.T) {
	_, r := host(t, fakedriver.Config{GPUs: 1})
	started, err := process.StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	kept := leftDaemon(t, r, "alive", mps.Process{PID: os.Getpid(), StartTime: started})
	gone := leftDaemon(t, r, "dead", mps.Process{PID: os.Getpid(), StartTime: 1})
	out, _, err := berth(t, "gpu", "ls")
	if err != nil {
		t.Fatal(err)
	}
	says(t, out, "MPS of pod ns/alive  [process ", "MPS of pod ns/dead  [ended]  threads=25", "on GPU-x, for ns/c")
	out, _, err = berth(t, "gpu", "ls", "--json")
	var s gpu.Status
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil || len(s.MPS) != 2 || s.MPS[0].Alive == s.MPS[1].Alive {
		t.Errorf("%+v, %v", s.MPS, err)
	}
	// What MIG has to say needs berth-gpu, and comes after.
	out, _, _ = berth(t, "gpu", "reclaim", "--dry-run")
	says(t, out, "pod ns/alive", "kept", "its containers live", "pod ns/dead", "would be stopped", "its containers are gone")
	if _, err := os.Stat(gone); err != nil {
		t.Errorf("the dry run has removed it: %v", err)
	}
	out, _, _ = berth(t, "gpu", "reclaim")
	says(t, out, "stopped")
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the one in use: %v", err)
	}
}
