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
		memory, cpus, err := c.Size(tc.annotations)
		if memory != tc.memory || cpus != tc.cpus || errors.Is(err, errdefs.ErrInvalidArgument) != (tc.cpus == 0) {
			t.Errorf("%s: %d MiB, %d CPUs, %v", name, memory, cpus, err)
		}
	}
}
