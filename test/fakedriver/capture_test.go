// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCapture has scripts/gpu/capture copy what a machine shows: here a fake
// one, bound over this. What names a single machine is not in the copy.
func TestCapture(t *testing.T) {
	d := build(t, Config{Model: H100, GPUs: 2, NVSwitch: true})
	out := filepath.Join(t.TempDir(), "capture")
	script := "mount --bind $FAKE/proc/driver /proc/driver && mount --bind $FAKE/proc/devices /proc/devices && " +
		"mount --bind $FAKE/sys /sys && exec ../../scripts/gpu/capture " + out
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env = append(os.Environ(), "FAKE="+d.Root)
	// The standard library makes all mounts of the new namespace private.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, g := range d.GPUs {
		information, err := os.ReadFile(filepath.Join(out, "proc/driver/nvidia/gpus", g.BusID, "information"))
		if err != nil || !strings.Contains(string(information), "GPU-00000000-0000-4000-8000-") {
			t.Errorf("information %s, %v", information, err)
		}
		for _, file := range []string{"vendor", "device", "drm"} {
			if _, err := os.Stat(filepath.Join(out, "sys/bus/pci/devices", g.BusID, file)); err != nil {
				t.Error(err)
			}
		}
	}
	for _, file := range []string{"proc/devices", "proc/driver/nvidia/version", "proc/driver/nvidia-caps/mig-minors"} {
		if info, err := os.Stat(filepath.Join(out, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, g := range d.GPUs {
		if text, err := exec.Command("grep", "-r", g.UUID, out).CombinedOutput(); err == nil {
			t.Errorf("it has a UUID of the machine: %s", text)
		}
	}
}
