// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"proprietary", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"},
		{"open", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (dvs-builder@U16-I3)", "570.124.06"},
		{"two parts", "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  565.57  Release Build", "565.57"},
		{"the compiler's is none", "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)", ""},
		{"a path", "NVRM version: NVIDIA ../../570.1 570.1/.. 570..1 .570 570.", ""},
		{"a number", "NVRM version: NVIDIA 570", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseModuleVersion([]byte(tt.line + "\nGCC version:  gcc version 13.3.0 \n")); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseDevices(t *testing.T) {
	got := parseMajors([]byte("Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n234 nvidia-caps-imex-channels\n508 nvidia-caps\n" +
		"510 nvidia-uvm\n511 nvidia-uvm\n9999 huge\n-1 negative\n\nBlock devices:\n259 blkext\n  8 nvidia-nvswitch\n"))
	want := map[string]uint32{"mem": 1, "nvidia": 195, "nvidiactl": 195, "nvidia-caps-imex-channels": 234, "nvidia-caps": 508, "nvidia-uvm": 510}
	for name, major := range want {
		if got[name] != major {
			t.Errorf("%s is %d, want %d", name, got[name], major)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseInformation(t *testing.T) {
	const id = "GPU-849440af-08d7-5db7-e8cc-35c7cc6a180f"
	for _, tt := range []struct {
		name, text string
		want       Device
	}{
		{"known", "Model: \t\t NVIDIA H200\nGPU UUID: \t " + id + "\nDevice Minor: \t 7\nGPU Excluded:\t No\n", Device{Model: "NVIDIA H200", UUID: id, Minor: 7}},
		{"never opened", "GPU UUID: \t GPU-????????-????-????-????-????????????\nDevice Minor: \t 0\n", Device{}},
		{"excluded", "Device Minor: 1\nGPU Excluded:\t Yes\n", Device{Minor: 1, Excluded: true}},
		{"blacklisted", "Device Minor: 1\nGPU Blacklisted:\t Yes\n", Device{Minor: 1, Excluded: true}},
		{"asleep", "", Device{Minor: -1}},
		{"no number", "Device Minor: 0x1\n", Device{Minor: -1}},
		{"an id that is a path", "GPU UUID: GPU-../../../../../../../../../etc/passwd\nDevice Minor: 0\n", Device{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.BusID = "0000:18:00.0"
			got := parseInformation([]byte(tt.text), tt.want.BusID)
			if got.MIG != nil || got.UUID != tt.want.UUID || got.Minor != tt.want.Minor || got.Model != tt.want.Model || got.Excluded != tt.want.Excluded {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestReadProcIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := readProc(path); err != nil || len(b) != procLimit {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add([]byte("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build\nGCC version: 12.1.0\n"))
	f.Add([]byte("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// It becomes a part of file names.
		if v := parseModuleVersion(b); v != "" && (strings.Trim(v, "0123456789.") != "" || strings.Contains(v, "..") || v[0] == '.' || len(v) > 32) {
			t.Errorf("version %q", v)
		}
	})
}

func FuzzParseInformation(f *testing.F) {
	f.Add([]byte("Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-849440af-08d7-5db7-e8cc-35c7cc6a180f\nDevice Minor: \t 7\nGPU Excluded:\t No\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := parseInformation(b, "0000:18:00.0")
		if d.Minor < -1 || d.UUID != "" && (len(d.UUID) != 40 || strings.ContainsAny(d.UUID, "/?\n ")) {
			t.Errorf("device %+v", d)
		}
	})
}

func FuzzParseDevices(f *testing.F) {
	f.Add([]byte("Character devices:\n195 nvidia\n508 nvidia-caps\n\nBlock devices:\n  8 sd\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, major := range parseMajors(b) {
			if major >= 1<<12 || name == "" || strings.Contains(name, "\n") {
				t.Errorf("%q is %d", name, major)
			}
		}
	})
}

func FuzzFields(f *testing.F) {
	f.Add([]byte("DeviceFileMinor: 3\nDeviceFileMode: 292\nDeviceFileModify: 1\n"), "DeviceFileMode")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		if n := number(b, key); n < -1 || n > 1<<31-1 {
			t.Errorf("%q is %d", key, n)
		}
		if _, minor, ok := parseDev(b); ok && minor >= 1<<20 {
			t.Errorf("minor %d", minor)
		}
		if n, ok := numbered(string(b), "gi"); ok && n < 0 {
			t.Errorf("gi%d", n)
		}
	})
}
