// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// A GPU's file has every line of a real one, space for space, before and after its first open.
func TestInformation(t *testing.T) {
	d := build(t, Config{Model: H100, GPUs: 8, UUIDUnknown: []int{1}, Excluded: []int{2}, UUIDs: []string{"GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b"}})
	const format = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t %d\nGPU UUID: \t %s\nVideo BIOS: \t %s\nBus Type: \t PCIe\n" +
		"DMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t %s\nDevice Minor: \t %d\nGPU Firmware: \t %s\nGPU Excluded:\t %s"
	const vbios, v = "96.00.99.00.01", "570.124.06"
	check := func(i int, want string) {
		t.Helper()
		if got := read(t, d, "proc/driver/nvidia/gpus/"+d.GPUs[i].BusID+"/information"); got != want {
			t.Errorf("GPU %d:\n%s\nwant:\n%s", i, got, want)
		}
	}
	check(0, fmt.Sprintf(format, 17, "GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b", vbios, "0000:1b:00.0", 2, v, "No"))
	check(1, fmt.Sprintf(format, 18, "GPU-????????-????-????-????-????????????", "??.??.??.??.??", "0000:43:00.0", 3, "N/A", "No"))
	check(2, fmt.Sprintf(format, 19, d.GPUs[2].UUID, vbios, "0000:52:00.0", 0, v, "Yes"))
	if err := d.Open(1); err != nil {
		t.Fatal(err)
	}
	check(1, fmt.Sprintf(format, 18, d.GPUs[1].UUID, vbios, "0000:43:00.0", 3, v, "No"))
	if got := names(t, filepath.Join(d.Proc, "driver/nvidia/gpus")); len(got) != 8 || got[0] != "0000:1b:00.0" {
		t.Errorf("GPUs %v", got)
	}
}

func TestProcFiles(t *testing.T) {
	d := build(t, Config{GPUs: 2, OpenModule: true, NVSwitch: true})
	old := build(t, Config{Model: T4, Version: "535.129.03", UnloadedUVM: true, NoModeset: true, Majors: Majors{Caps: 237}, Domain: 0x10})
	for _, c := range []struct {
		d               *Driver
		path, has, none string
	}{
		{d, "driver/nvidia/version", `^NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570\.124\.06  Release Build  \(dvs-builder@\S+\)  \w.*\nGCC version:  gcc version `, ""},
		{old, "driver/nvidia/version", `^NVRM version: NVIDIA UNIX x86_64 Kernel Module  535\.129\.03  \w.*\nGCC version:  gcc version `, ""},
		{d, "driver/nvidia/params", `(?m)^DeviceFileMode: 438$`, `NVreg`},
		{d, "driver/nvidia/params", `(?m)^RegistryDwords: ""$`, ""},
		{d, "driver/nvidia/registry", `^Binary: ""$`, ""},
		{d, "devices", `(?m)^195 nvidia\n195 nvidia-modeset\n195 nvidiactl\n226 drm\n234 nvidia-caps-imex-channels$`, "frontend"},
		{d, "devices", `(?m)^508 nvidia-caps\n509 nvidia-nvswitch\n510 nvidia-nvlink\n511 nvidia-uvm$`, ""},
		{old, "devices", `(?m)^195 nvidia-frontend$`, "nvidia-uvm|nvidiactl|nvswitch"},
		{old, "devices", `(?m)^237 nvidia-caps$`, ""},
		{d, "modules", `(?m)^nvidia 14381056 3 nvidia_uvm,nvidia_modeset, Live 0x0+ \(OE\)$`, ""},
		{old, "modules", `(?m)^nvidia 14381056 1 - Live 0x0+ \(POE\)$`, "nvidia_uvm|nvidia_modeset "},
		{d, "sys/kernel/random/boot_id", `^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`, ""},
		{d, "driver/nvidia-nvswitch/devices/0000:e4:00.0/information", `^BIOS Version: `, ""},
		{old, "driver/nvidia/gpus/0010:18:00.0/information", `Bus Location: \t 0010:18:00\.0\n`, ""},
	} {
		got := read(t, c.d, filepath.Join("proc", c.path))
		if !regexp.MustCompile(c.has).MatchString(got) || c.none != "" && regexp.MustCompile(c.none).MatchString(got) {
			t.Errorf("%s has no %s, or has %q:\n%s", c.path, c.has, c.none, got)
		}
	}
	if a, b := read(t, d, "proc/sys/kernel/random/boot_id"), read(t, old, "proc/sys/kernel/random/boot_id"); a == b {
		t.Errorf("two machines booted as %s", a)
	}
	for _, gone := range []string{"nvidia-uvm", "nvidia-modeset", "dri/card1"} {
		if _, err := os.Lstat(filepath.Join(old.Dev, gone)); !os.IsNotExist(err) {
			t.Errorf("%s of a module that is not loaded: %v", gone, err)
		}
	}
}

// The table of minors, an instance's file and its node say the same; instances come and go.
func TestInstances(t *testing.T) {
	d := build(t, Config{Model: A100, GPUs: 2, MIG: [][]Instance{{{1, 0}}}})
	table := make(map[string]string)
	lines := strings.Split(read(t, d, "proc/driver/nvidia-caps/mig-minors"), "\n")
	for _, line := range lines {
		name, minor, _ := strings.Cut(line, " ")
		table[name] = minor
	}
	for name, want := range map[string]string{"config": "1", "monitor": "2", "gpu0/gi0/access": "3", "gpu0/gi0/ci0/access": "4",
		"gpu0/gi1/access": "12", "gpu1/gi0/access": "138", "gpu31/gi14/ci7/access": "4322"} {
		if table[name] != want {
			t.Errorf("%s has minor %s, want %s", name, table[name], want)
		}
	}
	if len(table) != len(lines) || len(lines) != 2+32*15*9 {
		t.Errorf("%d names in %d lines", len(table), len(lines))
	}

	base := "proc/driver/nvidia/capabilities/"
	check := func(path string) {
		t.Helper()
		name := strings.Replace(path, "/mig/", "/", 1)
		want := fmt.Sprintf("DeviceFileMinor: %s\nDeviceFileMode: 292\nDeviceFileModify: 1", table[name])
		if got := read(t, d, base+path); got != want || table[name] == "" {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		var st unix.Stat_t
		node := filepath.Join(d.Dev, "nvidia-caps/nvidia-cap"+table[name])
		if err := unix.Stat(node, &st); err != nil || fmt.Sprint(unix.Minor(st.Rdev)) != table[name] || unix.Major(st.Rdev) != 508 {
			t.Errorf("%s: %v", node, err)
		}
	}
	check("gpu1/mig/gi1/access") // the first GPU has minor 1
	check("gpu1/mig/gi1/ci0/access")
	for range 2 { // again, after it was removed
		if err := d.AddInstance(1, Instance{5, 3}); err != nil {
			t.Fatal(err)
		}
		check("gpu0/mig/gi5/access")
		check("gpu0/mig/gi5/ci3/access")
		for _, in := range []Instance{{5, 3}, {5, NoCI}} {
			if err := d.RemoveInstance(1, in); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.RemoveInstance(1, Instance{5, NoCI}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("remove twice: %v", err)
		}
	}
	if got := names(t, filepath.Join(d.Root, base, "gpu0/mig")); len(got) != 0 {
		t.Errorf("left %v", got)
	}
	if got := read(t, d, base+"mig/config"); got != "DeviceFileMinor: 1\nDeviceFileMode: 256\nDeviceFileModify: 1" {
		t.Errorf("mig/config: %q", got)
	}
}
