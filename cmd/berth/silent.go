// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"berth/gpu"
	"berth/gpu/nvml"
)

// addSilent completes a list by the GPUs that the kernel shows and that do not
// answer: one that is lost tells neither its name nor whether it can do MIG, so
// that berth-gpu knows it only if it has records.
func (c *gpuCommand) addSilent(list *nvml.MIGList) error {
	return c.plan(func(p *gpu.Planner) error {
		status, err := p.Status(c.ctx)
		if err != nil {
			return err
		}
		for _, d := range status.Devices {
			i := slices.IndexFunc(list.GPUs, func(g nvml.MIGGPU) bool { return g.BusID == d.BusID })
			switch {
			case i >= 0 && list.GPUs[i].UUID == "":
				list.GPUs[i].UUID = d.UUID
			case i < 0 && d.Error != nil:
				list.GPUs = append(list.GPUs, nvml.MIGGPU{Index: -1, UUID: d.UUID, BusID: d.BusID, Error: d.Error})
			}
		}
		return nil
	})
}

// name tells a GPU from all others: by its UUID, or where nobody knows that by
// its address.
func name(g nvml.MIGGPU) string { return or(g.UUID, g.BusID) }
