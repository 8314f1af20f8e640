// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"slices"

	"berth/gpu/nvml"
)

// Status is what an operator wants to know of the GPUs of a host.
type Status struct {
	DriverVersion string         `json:"driver_version"`
	CUDAVersion   string         `json:"cuda_version,omitempty"`
	Devices       []DeviceStatus `json:"devices"`
	// MIG has what is in the GPUs that can do MIG, slot by slot, as the ledger
	// and NVML have it; nil where it was not asked for.
	MIG *nvml.MIGList `json:"mig,omitempty"`
	// MPS are the daemons of pods that use MPS.
	MPS []MPSStatus `json:"mps,omitempty"`
	// Warnings are what would refuse or limit an injection now.
	Warnings []string `json:"warnings,omitempty"`
}

// DeviceStatus is one GPU.
type DeviceStatus struct {
	Device
	// HeldBy are the containers that have the whole GPU, as NAMESPACE/ID.
	HeldBy    []string         `json:"held_by,omitempty"`
	Instances []InstanceStatus `json:"instances,omitempty"`
	// Bar is why no new container gets the GPU, if so.
	Bar *Bar `json:"bar,omitempty"`
}

// InstanceStatus is one MIG device.
type InstanceStatus struct {
	Instance
	Profile string   `json:"profile,omitempty"`
	HeldBy  []string `json:"held_by,omitempty"`
}

// Status looks at the host. What NVML does not say, or berth-gpu cannot ask,
// is left out and warned of.
func (p *Planner) Status(ctx context.Context) (*Status, error) {
	inv, err := Discover(p.Roots)
	if err != nil {
		return nil, err
	}
	s := &Status{DriverVersion: inv.DriverVersion}
	list, err := p.list(ctx)
	if err != nil {
		s.Warnings = append(s.Warnings, err.Error())
		list = new(nvml.List)
	} else {
		merge(inv, list)
	}
	s.CUDAVersion = list.CUDAVersion
	if _, err := LoadFiles(p.Roots, inv); err != nil {
		s.Warnings = append(s.Warnings, err.Error())
	}
	if err := p.fabric(inv, &Request{Capabilities: Compute}); err != nil {
		s.Warnings = append(s.Warnings, err.Error())
	}
	claims, err := p.Roots.Claims()
	if err != nil {
		return nil, err
	}
	s.MPS = p.Roots.mpsStatus()
	for _, d := range inv.Devices {
		s.Devices = append(s.Devices, p.status(d, list, claims))
	}
	return s, nil
}

func (p *Planner) status(d Device, list *nvml.List, claims []Claim) DeviceStatus {
	out := DeviceStatus{Device: d}
	out.MIG = nil // the same as Instances, with less
	out.Bar, _ = Barred(p.Roots, d.BusID)
	for _, in := range d.MIG {
		out.Instances = append(out.Instances, InstanceStatus{Instance: in, Profile: profile(list, d.BusID, in)})
	}
	for _, c := range claims {
		for _, h := range c.Devices {
			if h.BusID != d.BusID {
				continue
			}
			holder := c.Namespace + "/" + c.ID
			if h.MIG == nil {
				out.HeldBy = append(out.HeldBy, holder)
				continue
			}
			i := slices.IndexFunc(out.Instances, func(in InstanceStatus) bool { return in.GI == h.MIG.GI && in.CI == h.MIG.CI })
			if i >= 0 {
				out.Instances[i].HeldBy = append(out.Instances[i].HeldBy, holder)
			}
		}
	}
	return out
}

func profile(list *nvml.List, busID string, in Instance) string {
	for _, d := range list.Devices {
		for _, m := range d.MIG {
			if d.BusID == busID && m.GI == in.GI && m.CI == in.CI {
				return m.Profile
			}
		}
	}
	return ""
}
