// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"cmp"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// ls shows the GPUs, without a lock: a transaction that is under way shows as far as it is. It writes
// nothing.
func ls(t *transaction) (any, error) {
	if failed := t.survey(); failed != nil {
		return nil, failed
	}
	// A ledger that cannot be read, for want of root, is each GPU's error.
	dirs, _ := ledger.GPUs(t.Run)
	for _, busID := range dirs { // those that have records, and are lost
		if d, err := t.dir(busID); err == nil {
			if empty, err := d.Empty(); err != nil || !empty {
				t.gpu(busID)
			}
		}
	}
	out := wire.MIGList{GPUs: []wire.MIGGPU{}}
	for _, g := range t.gpus {
		if g.BusID == "" {
			continue // it does not tell which one it is; if it has records, it is there by its address
		}
		d, err := t.dir(g.BusID)
		if err != nil {
			return nil, err
		}
		if g.failed == nil {
			g.failed = g.read()
		}
		if g.failed != nil {
			out.GPUs = append(out.GPUs, recorded(d, g, t.now))
			continue
		}
		out.GPUs = append(out.GPUs, t.list(d, g))
	}
	return out, nil
}

// recorded is what the ledger alone says of a GPU that does not answer.
func recorded(d *ledger.Dir, g *slicedGPU, now ledger.Now) wire.MIGGPU {
	out := wire.MIGGPU{Index: g.Index, UUID: g.UUID, BusID: g.BusID, Error: g.failed}
	if by, _ := d.HeldBy(); by != "" {
		out.Leave("it is held by " + by)
	}
	records, torn, _ := d.Read()
	for _, r := range records {
		out.Slots = max(out.Slots, r.Place.Start+r.Place.Size)
		if out.UUID == "" && r.Same(now) {
			out.UUID = r.GPU
		}
		in := wire.MIGInstance{Profile: r.Name, Place: r.Place, Owner: &r.Owner, State: string(r.State), Since: r.Began,
			Life: string(now.Life(r.Owner)), Until: r.Until}
		if r.GI != nil {
			in.GI = *r.GI
		}
		out.Instances = append(out.Instances, in)
	}
	for _, file := range torn {
		out.Torn = append(out.Torn, file.ID)
	}
	return out
}

func (t *transaction) list(d *ledger.Dir, g *slicedGPU) (out wire.MIGGPU) {
	out = wire.MIGGPU{Index: g.Index, UUID: g.UUID, BusID: g.BusID, Mode: wire.MIGDisabled}
	names := make(map[int]string)
	for _, p := range g.Profiles {
		names[p.ID] = p.Name
		for _, at := range p.Placements {
			out.Slots = max(out.Slots, at.Start+at.Size)
		}
	}
	if g.on {
		out.Mode = wire.MIGEnabled
	}
	switch alone, err := t.leftAlone(g); {
	case err != nil:
		out.Error = failure(err)
	case alone != "":
		defer func() { out.Leave(alone) }()
	}
	if out.Error != nil || !g.on {
		return out
	}
	live, records, torn, err := t.view(d, g)
	if err != nil {
		out.Error = failure(err)
		return out
	}
	for _, file := range torn {
		out.Torn = append(out.Torn, file.ID)
	}
	for _, in := range live {
		shown := wire.MIGInstance{GI: in.GI, Profile: names[in.Profile], Place: in.Place, UUIDs: in.MIG}
		for _, r := range records {
			if ledger.Explained(in, []*ledger.Record{r}, t.now) {
				shown.Owner, shown.State, shown.Since = &r.Owner, string(r.State), r.Began
				if r.State == ledger.Idle {
					shown.Until = r.Until
				}
				shown.Life = string(t.now.Life(r.Owner))
			}
		}
		out.Instances = append(out.Instances, shown)
	}
	slices.SortFunc(out.Instances, func(a, b wire.MIGInstance) int { return cmp.Compare(a.Place.Start, b.Place.Start) })
	var failed *wire.Error
	out.Fits, failed = g.fits()
	if failed != nil && !absent(failed) {
		out.Error = failed
	}
	return out
}

// fits asks the driver how many more of each profile there is room for.
func (g *slicedGPU) fits() (out []wire.MIGFit, _ *wire.Error) {
	for _, p := range g.Profiles {
		n, failed := get(g.lib, "nvmlDeviceGetGpuInstanceRemainingCapacity", func() (int, nvml.Return) {
			return g.handle.GetGpuInstanceRemainingCapacity(profileInfo(p))
		})
		if failed != nil {
			return nil, failed
		}
		out = append(out, wire.MIGFit{Profile: p.Name, Count: n})
	}
	return out, nil
}
