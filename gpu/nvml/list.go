// SPDX-License-Identifier: Apache-2.0

package nvml

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
)

// List is the answer of `berth-gpu list`.
type List struct {
	DriverVersion string   `json:"driver_version"`
	NVMLVersion   string   `json:"nvml_version,omitempty"`
	CUDAVersion   string   `json:"cuda_version,omitempty"` // the newest that the driver supports: "12.8"
	Devices       []Device `json:"devices"`
}

// Device is one GPU. What the GPU or its driver does not have is left out.
type Device struct {
	Index             int    `json:"index"`            // NVML's, which is not the minor
	UUID              string `json:"uuid,omitempty"`   // "GPU-..."
	BusID             string `json:"bus_id,omitempty"` // "0000:3b:00.0", as in /proc/driver/nvidia/gpus
	Minor             int    `json:"minor"`            // of /dev/nvidiaN; -1 if it is not known
	Name              string `json:"name,omitempty"`
	Brand             string `json:"brand,omitempty"`              // as NVIDIA_REQUIRE names it: "tesla"
	Architecture      string `json:"architecture,omitempty"`       // "hopper"
	ComputeCapability string `json:"compute_capability,omitempty"` // "9.0"
	Memory            uint64 `json:"memory,omitempty"`             // bytes
	ComputeMode       string `json:"compute_mode,omitempty"`       // ComputeProhibited or ComputeExclusive; empty for the default
	MIGMode           string `json:"mig_mode,omitempty"`           // MIGEnabled or MIGDisabled; empty without MIG
	MIG               []MIG  `json:"mig,omitempty"`
	// Error is the first that this device met; the fields that were read before and after it stand.
	Error *Error `json:"error,omitempty"`
}

// The modes of a GPU that can do MIG.
const (
	MIGEnabled  = "enabled"
	MIGDisabled = "disabled"
)

// The compute modes that are not the default.
const (
	ComputeProhibited = "prohibited"
	ComputeExclusive  = "exclusive_process"
)

// MIG is one MIG device: a compute instance in a GPU instance.
type MIG struct {
	Index   int    `json:"index"` // among the GPU's MIG devices: the M of "gpu:M"
	UUID    string `json:"uuid"`  // "MIG-..."
	GI      int    `json:"gi"`
	CI      int    `json:"ci"`
	Profile string `json:"profile,omitempty"` // "1g.18gb"
}

const (
	maxBytes   = 1 << 20 // 32 GPUs with 7 MIG devices each take 50 KiB
	maxDevices = 256
	maxMIG     = 64
)

// The grammar of ids; an x is a digit or a to f. Drivers before R470 (2021), whose MIG UUIDs have
// another, are not served.
const (
	uuid  = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	busID = "xxxxxxxx:xx:xx.x" // of the domain at least four digits
)

func isBusID(id string) bool {
	short := len(busID) - len(id)
	return short >= 0 && short <= 4 && match(id, busID[short:])
}

func match(id, pattern string) bool {
	if len(id) != len(pattern) {
		return false
	}
	for i := range len(id) {
		hex := id[i] >= '0' && id[i] <= '9' || id[i] >= 'a' && id[i] <= 'f'
		if pattern[i] == 'x' && !hex || pattern[i] != 'x' && id[i] != pattern[i] {
			return false
		}
	}
	return true
}

// Decode reads the document that `berth-gpu list` wrote.
func Decode(data []byte) (*List, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("berth-gpu wrote %d bytes, at most %d are read: %w", len(data), maxBytes, errdefs.ErrInvalidArgument)
	}
	var l List
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("read what berth-gpu wrote: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if l.DriverVersion == "" || len(l.Devices) > maxDevices {
		return nil, fmt.Errorf("berth-gpu named driver %q and %d devices: %w", l.DriverVersion, len(l.Devices), errdefs.ErrInvalidArgument)
	}
	for i := range l.Devices {
		if err := l.Devices[i].check(); err != nil {
			return nil, fmt.Errorf("berth-gpu, device %d of its list: %w: %w", i, err, errdefs.ErrInvalidArgument)
		}
	}
	return &l, nil
}

// check holds a device against the grammar. One in error may lack its ids.
func (d *Device) check() error {
	unknown := func(id string) bool { return id == "" && d.Error != nil }
	switch {
	case d.Index < 0 || d.Index >= maxDevices || d.Minor < -1 || d.Minor > 1<<20:
		return fmt.Errorf("index %d, minor %d", d.Index, d.Minor)
	case !match(d.UUID, "GPU-"+uuid) && !unknown(d.UUID):
		return fmt.Errorf("UUID %q", d.UUID)
	case !isBusID(d.BusID) && !unknown(d.BusID):
		return fmt.Errorf("bus id %q", d.BusID)
	case d.MIGMode != "" && d.MIGMode != MIGEnabled && d.MIGMode != MIGDisabled:
		return fmt.Errorf("MIG mode %q", d.MIGMode)
	case d.ComputeMode != "" && d.ComputeMode != ComputeProhibited && d.ComputeMode != ComputeExclusive:
		return fmt.Errorf("compute mode %q", d.ComputeMode)
	case len(d.MIG) > maxMIG:
		return fmt.Errorf("%d MIG devices", len(d.MIG))
	}
	for _, m := range d.MIG {
		if m.Index < 0 || m.Index >= maxMIG || m.GI < 0 || m.CI < 0 || !match(m.UUID, "MIG-"+uuid) {
			return fmt.Errorf("MIG device %+v", m)
		}
	}
	return nil
}
