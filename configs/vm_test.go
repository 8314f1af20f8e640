// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func loadVM(t *testing.T, text string) (VM, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vm.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadVM(path)
}

func TestLoadVM(t *testing.T) {
	want := DefaultVM()
	if got, err := LoadVM(filepath.Join(t.TempDir(), "none")); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("without a file: %+v, %v", got, err)
	}
	want.Accel, want.MemoryMiB = []string{"kvm", "tcg"}, 1024
	if got, err := loadVM(t, "accel = ['kvm', 'tcg']\nmemory_mib = 1024"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	// The example shows the defaults.
	if got, err := LoadVM("vm.toml"); err != nil || !reflect.DeepEqual(got, DefaultVM()) {
		t.Errorf("the shipped file: %+v, %v", got, err)
	}
}

func TestLoadVMRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"acel = ['kvm']":                    `line 1: option "acel" is not known`,
		"accel = []":                        "accel is empty",
		"accel = ['xen']":                   `"xen"; known are kvm and tcg`,
		"image = 'guest'":                   "image is",
		"uid_base = 0":                      "uid_base is 0",
		"uid_base = 2147483647":             "uid_base is",
		"memory_mib = 64":                   "memory_mib is 64",
		"memory_mib = 200000":               "memory_mib is",
		"share_cache = 'none'":              `"none": it must be auto or always`,
		"pause = 'vm'":                      `"vm": it must be container or machine`,
		"cpus = 0":                          "cpus is 0",
		"max_cpus = 256":                    "max_cpus 256",
		"kernel_parameters = 'init=/bin/s'": "not known",
	} {
		got, err := loadVM(t, text)
		if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), want) || !reflect.DeepEqual(got, VM{}) {
			t.Errorf("%s: %+v, %v; want %s", text, got, err, want)
		}
	}
}

func TestVMSize(t *testing.T) {
	c := DefaultVM()
	for name, tc := range map[string]struct {
		annotations  map[string]string
		memory, cpus int // 0 to be refused
	}{
		"nothing":           {nil, 512, 1},
		"CPUs of the CRI":   {map[string]string{criMemory: "0", criCPUQuota: "250001", criCPUPeriod: "100000"}, 512, 3},
		"no CPU limit":      {map[string]string{criMemory: "0", criCPUQuota: "0", criCPUPeriod: "100000"}, 512, 1},
		"huge CPU limits":   {map[string]string{criMemory: "0", criCPUQuota: "9223372036854775807", criCPUPeriod: "1"}, 512, c.MaxCPUs},
		"at the bounds":     {map[string]string{VMMemory: "96", VMCPUs: "32"}, 96, 32},
		"at the other ones": {map[string]string{VMMemory: "65536", VMCPUs: "1"}, 65536, 1},
		"below a bound":     {map[string]string{VMMemory: "95"}, 0, 0},
		"none":              {map[string]string{VMCPUs: "0"}, 0, 0},
		"beyond a number":   {map[string]string{VMMemory: "99999999999999999999"}, 0, 0},
		"an empty one":      {map[string]string{VMMemory: ""}, 0, 0},
		"of somebody else": {map[string]string{
			"berth.dev/vm-accel": "tcg", "berth.dev/vm-qemu": "/bin/sh", "berth.dev/vm-kernel": "/k", "berth.dev/vm-memory ": "128",
			"io.katacontainers.config.hypervisor.default_memory": "128", "io.katacontainers.config.hypervisor.path": "/bin/sh",
		}, 512, 1},
		"limits of the CRI": {map[string]string{criMemory: "1073741824"}, 1024 + guestOverheadMiB, 1},
		"small limits":      {map[string]string{criMemory: "1048576"}, 512, 1},
		"no limits":         {map[string]string{criMemory: "0"}, 512, 1},
		"huge limits":       {map[string]string{criMemory: "9223372036854775807"}, c.MaxMemoryMiB, 1},
		"asked for":         {map[string]string{VMMemory: "128", VMCPUs: "4", criMemory: "1073741824"}, 128, 4},
		"too little":        {map[string]string{VMMemory: "16"}, 0, 0},
		"too much":          {map[string]string{VMMemory: "99999999"}, 0, 0},
		"no number":         {map[string]string{VMCPUs: "2,host=on"}, 0, 0},
		"too many":          {map[string]string{VMCPUs: "33"}, 0, 0},
	} {
		memory, cpus, err := c.Size(tc.annotations, nil)
		if memory != tc.memory || cpus != tc.cpus || errors.Is(err, errdefs.ErrInvalidArgument) != (tc.cpus == 0) {
			t.Errorf("%s: %d MiB, %d CPUs, %v", name, memory, cpus, err)
		}
	}
}

// A container that is in no pod of the CRI's is a pod of one.
func TestVMSizeOfContainer(t *testing.T) {
	memory, quota := int64(1<<30), int64(150_000)
	own := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}, CPU: &specs.LinuxCPU{Quota: &quota}}
	c := DefaultVM()
	if m, n, err := c.Size(nil, own); m != 1024+guestOverheadMiB || n != 2 || err != nil {
		t.Errorf("of its own limits: %d MiB, %d CPUs, %v", m, n, err)
	}
	if m, n, err := c.Size(map[string]string{criMemory: "0"}, own); m != 512 || n != 1 || err != nil {
		t.Errorf("the CRI speaks for the pod: %d MiB, %d CPUs, %v", m, n, err)
	}
	none := int64(-1)
	own.Memory.Limit, own.CPU.Quota = &none, &none
	if m, n, err := c.Size(nil, own); m != 512 || n != 1 || err != nil {
		t.Errorf("none: %d MiB, %d CPUs, %v", m, n, err)
	}
}
