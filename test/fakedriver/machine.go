// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Model is a kind of GPU.
type Model string

// The models. All but T4 have MIG and sit on boards with NVSwitches.
const (
	A100 Model = "a100"
	H100 Model = "h100"
	H200 Model = "h200"
	T4   Model = "t4"
)

// hardware is what a model's PCI functions and information files say.
type hardware struct {
	name      string
	device    int
	subsystem int
	vbios     string
	dmaBits   int
	buses     [8]int // PCI buses of a full machine, in order
	mig       bool
	switches  int
	switchID  int
}

func hardwareOf(m Model) (hardware, error) {
	switch m {
	case A100:
		return hardware{name: "NVIDIA A100-SXM4-80GB", device: 0x20b2, subsystem: 0x1463, vbios: "92.00.45.00.05", dmaBits: 47,
			buses: [8]int{0x07, 0x0f, 0x47, 0x4e, 0x87, 0x90, 0xb7, 0xbd}, mig: true, switches: 6, switchID: 0x1af1}, nil
	case H100:
		return hardware{name: "NVIDIA H100 80GB HBM3", device: 0x2330, subsystem: 0x16c1, vbios: "96.00.99.00.01", dmaBits: 52,
			buses: [8]int{0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf}, mig: true, switches: 4, switchID: 0x22a3}, nil
	case H200:
		return hardware{name: "NVIDIA H200", device: 0x2335, subsystem: 0x18be, vbios: "96.00.b9.00.01", dmaBits: 52,
			buses: [8]int{0x18, 0x2a, 0x3a, 0x5d, 0x9a, 0xab, 0xba, 0xdb}, mig: true, switches: 4, switchID: 0x22a3}, nil
	case T4:
		return hardware{name: "Tesla T4", device: 0x1eb8, subsystem: 0x12a2, vbios: "90.04.96.00.02", dmaBits: 47,
			buses: [8]int{0x18, 0x3b, 0x5e, 0x75, 0x86, 0xaf, 0xd8, 0xe1}}, nil
	}
	return hardware{}, fmt.Errorf("fake driver: model %q is not one of a100, h100, h200, t4: %w", m, errdefs.ErrInvalidArgument)
}

// GPU is one GPU of the machine.
type GPU struct {
	Index    int // NVML's: the place in PCI order among GPUs that are not excluded; -1 if excluded
	Minor    int // of /dev/nvidiaN
	BusID    string
	UUID     string // also while the information file does not show it yet
	Model    Model
	Name     string // as NVML has it
	Card     int    // of /dev/dri/cardN; card 0 is the BMC's
	Render   int    // of /dev/dri/renderDN
	NUMA     int
	Excluded bool
	Known    bool // the information file shows the UUID
	bus      int
}

// gpus lays the machine out, in PCI order.
func (c Config) gpus(hw hardware) []GPU {
	out := make([]GPU, c.GPUs)
	index := 0
	for i := range out {
		g := &out[i]
		*g = GPU{
			Index: -1, Minor: minorOf(i, c.GPUs), Model: c.Model, Name: hw.name, bus: hw.buses[i],
			BusID: fmt.Sprintf("%04x:%02x:00.0", c.Domain, hw.buses[i]),
			UUID:  uuid(fmt.Sprintf("%s %04x:%02x", c.Model, c.Domain, hw.buses[i])),
			Card:  i + 1, Render: 128 + i, NUMA: i / ((c.GPUs + 1) / 2), Known: true,
		}
		if i < len(c.UUIDs) && c.UUIDs[i] != "" {
			g.UUID = c.UUIDs[i]
		}
	}
	for _, i := range c.Excluded {
		out[i].Excluded = true
	}
	for _, i := range c.UUIDUnknown {
		out[i].Known = false
	}
	for i := range out {
		if !out[i].Excluded {
			out[i].Index = index
			index++
		}
	}
	return out
}

// minorOf is never the PCI order on a machine of several GPUs. With 8 it is that of a DGX
// A100: 2 3 0 1 6 7 4 5.
func minorOf(i, gpus int) int {
	if gpus%4 == 0 {
		return i ^ 2
	}
	if i^1 < gpus {
		return i ^ 1
	}
	return i
}

// uuid is the same at each build, so that a test may name it.
func uuid(of string) string {
	h := sha256.Sum256([]byte(of))
	return fmt.Sprintf("GPU-%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// majorOf is 570 of 570.124.06; Config.check has seen that it is a number.
func majorOf(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(first)
	return n
}

// cudaOf is the CUDA version that a driver brings (CUDA Toolkit release notes, table 3).
func cudaOf(version string) string {
	for _, row := range []struct {
		since int
		cuda  string
	}{{580, "13.0"}, {575, "12.9"}, {570, "12.8"}, {565, "12.7"}, {560, "12.6"}, {555, "12.5"}, {550, "12.4"}, {545, "12.3"}, {535, "12.2"}, {530, "12.1"}, {525, "12.0"}} {
		if majorOf(version) >= row.since {
			return row.cuda
		}
	}
	return "11.4"
}

// cudaNumber is 12080 for 12.8, as cuDriverGetVersion says it.
func cudaNumber(cuda string) int {
	major, minor, _ := strings.Cut(cuda, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return 1000*a + 10*b
}
