// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/nvml"
)

// Planner decides what containers of one host get.
type Planner struct {
	Roots  Roots
	Policy Policy
	// Sockets names the driver's daemons whose sockets are given to containers.
	Sockets []string
	// CUDACompat has forward-compatibility libraries of the image preferred
	// where they are newer than the driver's.
	CUDACompat bool
	// IgnoreFabric lets containers start on a machine with NVSwitches whose
	// fabric manager does not run.
	IgnoreFabric bool
	// Partitioned names the GPUs, by UUID or PCI address, that are given to
	// nobody whole; AllowMode those whose MIG mode may be turned on.
	Partitioned, AllowMode []string
	// NVML asks berth-gpu, for what the kernel does not show; nil where there
	// is no helper.
	NVML func(context.Context) (*nvml.List, error)
}

// Plan decides what a container with this spec gets. It is nil where the
// container asks for nothing. Nothing is changed.
func (p *Planner) Plan(ctx context.Context, spec *specs.Spec) (*Plan, error) {
	return p.plan(ctx, spec, supply{slices: previewSlices})
}

// supply makes what is asked for and not there yet.
type supply struct {
	slices granter
	mps    seater
}

// plan has the MIG devices made that are asked for, and an MPS daemon started,
// once it is known that nothing else is in the way.
func (p *Planner) plan(ctx context.Context, spec *specs.Spec, from supply) (*Plan, error) {
	req, err := ParseRequest(spec, p.Policy)
	if err != nil || req == nil {
		return nil, err
	}
	plan := &Plan{Request: req}
	for _, i := range req.Remove {
		plan.drop = append(plan.drop, planned[int]{i, "it asked for a device"})
	}
	if req.Edited {
		if err := p.edited(ctx, plan, spec); err != nil {
			return nil, err
		}
		return plan, plan.carryOut(spec)
	}
	host, err := p.survey(ctx, req, from.slices)
	if err != nil {
		return nil, fmt.Errorf("GPU %s, by %s: %w", req.Asked, req.Source, err)
	}
	plan.Devices = host.selected
	if err := host.inject(plan, spec, p); err != nil {
		return nil, fmt.Errorf("GPU %s, by %s: %w", req.Asked, req.Source, err)
	}
	if req.MPS != nil {
		if err := p.share(ctx, plan, spec, host, from.mps); err != nil {
			return nil, fmt.Errorf("GPU %s, by %s: %w", req.Asked, req.Source, err)
		}
	}
	return plan, nil
}

// survey is the host as one request finds it.
type survey struct {
	roots    Roots
	inv      *Inventory
	files    *Files
	selected []Selected
}

// survey looks at the host and checks that it can give what is asked for.
func (p *Planner) survey(ctx context.Context, req *Request, grant granter) (*survey, error) {
	inv, err := Discover(p.Roots)
	if err != nil {
		return nil, err
	}
	if err := p.keep(ctx, inv); err != nil {
		return nil, err
	}
	files, err := LoadFiles(p.Roots, inv)
	if err != nil {
		return nil, err
	}
	s := &survey{roots: p.Roots, inv: inv, files: files}
	s.selected, err = Select(req, inv.Devices, p.usable)
	if errors.Is(err, ErrNeedNVML) {
		if err := p.ask(ctx, inv); err != nil {
			return nil, err
		}
		s.selected, err = Select(req, inv.Devices, p.usable)
	}
	if err == nil {
		s.selected, err = p.whole(ctx, req, s)
	}
	if err != nil {
		return nil, err
	}
	for _, d := range s.selected {
		if err := p.notBarred(d.Device); err != nil {
			return nil, err
		}
		if err := notKept(d); err != nil {
			return nil, err
		}
	}
	if err := p.meets(ctx, req, s); err != nil {
		return nil, err
	}
	if err := p.fabric(inv, req); err != nil || req.Slices == nil {
		return s, err
	}
	if s.selected, err = grant(ctx, inv, req.Slices); err != nil {
		return nil, err
	}
	return s, p.meets(ctx, req, s)
}

// ask completes an inventory with what NVML knows.
func (p *Planner) ask(ctx context.Context, inv *Inventory) error {
	list, err := p.list(ctx)
	if err != nil {
		return err
	}
	merge(inv, list)
	records, err := p.records() // it shows devices that were made since
	recall(inv, records)
	return err
}

// merge completes an inventory: UUIDs, and which MIG device is which.
func merge(inv *Inventory, list *nvml.List) {
	for i := range inv.Devices {
		d := &inv.Devices[i]
		for _, known := range list.Devices {
			if known.BusID != d.BusID {
				continue
			}
			if known.UUID != "" {
				d.UUID = known.UUID
			}
			d.MIGMode = known.MIGMode == nvml.MIGEnabled
			d.MIG = d.MIG[:0:0]
			for _, m := range known.MIG {
				d.MIG = append(d.MIG, Instance{Index: m.Index, UUID: m.UUID, GI: m.GI, CI: m.CI})
			}
		}
	}
}

func (p *Planner) list(ctx context.Context) (*nvml.List, error) {
	if p.NVML == nil {
		return nil, fmt.Errorf("only NVML knows this, and the program berth-gpu that asks it is not installed beside the shim: %w",
			errdefs.ErrFailedPrecondition)
	}
	return p.NVML(ctx)
}

// knows is true where a list says all about a GPU that NVML could say.
func knows(list *nvml.List, d Device) bool {
	return slices.ContainsFunc(list.Devices, func(known nvml.Device) bool { return known.BusID == d.BusID && known.Error == nil })
}

// meets checks what the image requires of each device. What NVML says of a
// driver's version and of a GPU's model holds until the next boot, and is kept
// with the driver's files. A GPU that came since, or did not answer, is asked for again.
func (p *Planner) meets(ctx context.Context, req *Request, s *survey) error {
	if len(req.Require) == 0 {
		return nil
	}
	list, err := nvml.Decode(s.files.NVML)
	if err != nil || slices.ContainsFunc(s.selected, func(d Selected) bool { return !knows(list, d.Device) }) {
		if list, err = p.list(ctx); err != nil {
			return fmt.Errorf("the image has requirements (NVIDIA_REQUIRE_*; NVIDIA_DISABLE_REQUIRE=true skips them): %w", err)
		}
		if raw, err := json.Marshal(list); err == nil {
			_ = s.files.StoreNVML(raw) // the next one asks again
		}
	}
	devices := s.selected
	if len(devices) == 0 {
		devices = []Selected{{}} // the driver alone
	}
	for _, d := range devices {
		facts := Facts{CUDA: list.CUDAVersion, Driver: s.inv.DriverVersion}
		for _, known := range list.Devices {
			if known.BusID == d.Device.BusID {
				facts.Arch, facts.Brand = known.ComputeCapability, known.Brand
			}
		}
		for _, r := range req.Require {
			if err := r.Check(facts); err != nil {
				return err
			}
		}
	}
	return nil
}
