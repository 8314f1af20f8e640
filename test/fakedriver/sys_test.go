// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// From a bus id to the graphics nodes, as one does on a real host; every link stays inside.
func TestSys(t *testing.T) {
	d := build(t, Config{GPUs: 8, NVSwitch: true})
	for _, g := range d.GPUs {
		dir := "sys/bus/pci/devices/" + g.BusID
		for file, want := range map[string]string{"vendor": "0x10de", "device": "0x2335", "class": "0x030200",
			"numa_node": fmt.Sprint(g.Index / 4), "drm/card" + fmt.Sprint(g.Card) + "/dev": fmt.Sprintf("226:%d", g.Card)} {
			if got := read(t, d, dir+"/"+file); got != want {
				t.Errorf("%s/%s: %s, want %s", dir, file, got, want)
			}
		}
		want := []string{fmt.Sprintf("card%d", g.Card), fmt.Sprintf("renderD%d", g.Render)}
		if got := names(t, filepath.Join(d.Root, dir, "drm")); !slices.Equal(got, want) {
			t.Errorf("%s: drm %v, want %v", g.BusID, got, want)
		}
		back, err := filepath.EvalSymlinks(filepath.Join(d.Sys, fmt.Sprintf("dev/char/226:%d/device", g.Render)))
		if err != nil || filepath.Base(back) != g.BusID {
			t.Errorf("%s: its render node leads to %s: %v", g.BusID, back, err)
		}
		driver, err := filepath.EvalSymlinks(filepath.Join(d.Root, dir, "driver"))
		if err != nil || filepath.Base(driver) != "nvidia" {
			t.Errorf("%s: driver %s: %v", g.BusID, driver, err)
		}
	}
	if got := read(t, d, "sys/bus/pci/devices/"+bmcBusID+"/vendor"); got == "0x10de" {
		t.Error("the BMC is NVIDIA's")
	}
	if got := read(t, d, "sys/module/nvidia/version"); got != d.Version {
		t.Errorf("module of version %s", got)
	}
	all := links(t, d, "sys")
	for path, target := range all {
		to, err := filepath.EvalSymlinks(path)
		if err != nil || filepath.IsAbs(target) || !strings.HasPrefix(to, d.Sys+"/") {
			t.Errorf("%s -> %s: %v", path, target, err)
		}
	}
	if len(all) < 60 {
		t.Errorf("only %d links", len(all))
	}
}

// Programs run where there is nothing else.
func TestPrograms(t *testing.T) {
	d := build(t, Config{GPUs: 2, SMI: smi(t)})
	bare := t.TempDir()
	for _, name := range []string{"nvidia-imex", "nvidia-smi"} {
		data, err := os.ReadFile(filepath.Join(d.Root, "usr/bin", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bare, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := output(t, "chroot", bare, "/nvidia-imex"); got != "nvidia-imex 570.124.06 (fake)\n" {
		t.Errorf("nvidia-imex says %q", got)
	}
	got := output(t, "chroot", d.Root, "/usr/bin/nvidia-smi")
	for _, want := range []string{"control: /dev/nvidiactl 195:255 ENXIO allowed\n", "GPU: /dev/nvidia1 195:1 ENXIO allowed\n",
		"device: /dev/nvidia-uvm 511:0 ENXIO allowed\n", "library: /usr/lib/x86_64-linux-gnu/libcuda.so.1 -> libcuda.so.570.124.06\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("nvidia-smi says no %q:\n%s", want, got)
		}
	}
}
