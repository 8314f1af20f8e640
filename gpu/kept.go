// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// A GPU is given whole or it is sliced, never both. Who is given one whole has
// its claim on disk first and then looks whether it is sliced (settle); who is
// given slices has its claim on disk first, with the GPUs whose MIG mode may be
// turned on for it, and then looks which are held whole (sliceable). So of two
// at once one at least sees the other. On a GPU that is in MIG mode already
// nobody has use of the whole.

// keep marks the GPUs that are given to nobody whole.
func (p *Planner) keep(ctx context.Context, inv *Inventory) error {
	unknown := p.identify(ctx, inv)
	records, err := p.records()
	if err != nil {
		return err
	}
	recall(inv, records)
	sliced, err := p.sliced(records)
	if err != nil {
		return err
	}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		switch {
		case names(p.Partitioned, *d):
			d.Kept = "the configuration has it partitioned (mig.gpus)"
		case sliced[d.BusID] != "":
			d.Kept = sliced[d.BusID]
		case d.UUID == "" && unknown != nil:
			d.Kept = "whether the configuration has it partitioned (mig.gpus) cannot be told: " + unknown.Error()
		}
	}
	return nil
}

// identify asks NVML for UUIDs that the kernel does not show yet, if the
// configuration names GPUs by theirs.
func (p *Planner) identify(ctx context.Context, inv *Inventory) error {
	byUUID := func(name string) bool { return strings.HasPrefix(name, "GPU-") }
	if !slices.ContainsFunc(p.Partitioned, byUUID) && !slices.ContainsFunc(p.AllowMode, byUUID) ||
		!slices.ContainsFunc(inv.Devices, func(d Device) bool { return d.UUID == "" && !d.Excluded }) {
		return nil
	}
	list, err := p.list(ctx)
	if err != nil {
		return err
	}
	for i := range inv.Devices {
		for _, known := range list.Devices {
			if known.BusID == inv.Devices[i].BusID && inv.Devices[i].UUID == "" {
				inv.Devices[i].UUID = known.UUID
			}
		}
	}
	return nil
}

// sliced says by bus id which GPUs have slices, or may be about to get them, and
// whose.
func (p *Planner) sliced(records map[string]onRecord) (map[string]string, error) {
	out := map[string]string{}
	for busID, o := range records {
		out[busID] = o.whole
	}
	if len(p.AllowMode) == 0 {
		return out, nil
	}
	claims, err := p.Roots.Claims()
	for _, c := range claims {
		if c.Slices == nil {
			continue
		}
		for _, busID := range c.Slices.Modes {
			if out[busID] == "" {
				out[busID] = fmt.Sprintf("its MIG mode may be turned on just now, for %s/%s (mig.allow_mode); try again", c.Namespace, c.ID)
			}
		}
	}
	return out, err
}

// notKept refuses a whole GPU that nobody gets.
func notKept(s Selected) error {
	if s.Instance != nil || s.Device.Kept == "" {
		return nil
	}
	return keptErr(s.Device.UUID, s.Device.BusID, s.Device.Index, s.Device.Kept)
}

func keptErr(uuid, busID string, index int, why string) error {
	return fmt.Errorf("GPU %s (index %d) is given to nobody whole: %s; ask for a MIG device by %smig, or for another GPU: %w",
		orUnknown(uuid, busID), index, why, AnnotationPrefix, errdefs.ErrFailedPrecondition)
}

// settle puts on record which devices a container is given that were not made
// for it, and then makes sure that nobody has begun to slice one of these GPUs,
// or been given one of these instances.
func (h *Hook) settle(claim *Claim) error {
	if len(claim.Devices) == 0 || claim.Slices != nil {
		return nil
	}
	if err := h.Roots.writeClaim(claim); err != nil {
		return err
	}
	records, err := h.records()
	if err != nil {
		return err
	}
	for _, d := range claim.Devices {
		if d.whole() {
			continue
		}
		if whose := records[d.BusID].of(d.MIG.GI); whose != "" {
			return theirsErr("MIG device "+orUnknown(d.MIG.UUID, fmt.Sprintf("gi%d", d.MIG.GI))+" of the GPU at "+d.BusID, whose)
		}
	}
	sliced, err := h.sliced(records)
	for _, d := range claim.Devices {
		if why := sliced[d.BusID]; d.whole() && why != "" {
			return keptErr(d.UUID, d.BusID, d.Index, why)
		}
	}
	return err
}

func (d Holding) whole() bool { return d.MIG == nil }

// modesAllowed are the GPUs whose MIG mode may be turned on.
func (h *Hook) modesAllowed(inv *Inventory) (out []string) {
	for _, d := range inv.Devices {
		if names(h.AllowMode, d) {
			out = append(out, d.BusID)
		}
	}
	return out
}

// sliceable are the GPUs that may be sliced for new containers, and why the
// others may not.
func (h *Hook) sliceable(inv *Inventory) (out []Device, not []string, _ error) {
	claims, err := h.Roots.Claims()
	if err != nil {
		return nil, nil, err
	}
	for _, d := range inv.Devices {
		switch by := wholeOf(claims, d); {
		case d.Excluded:
			not = append(not, "GPU "+d.BusID+" is excluded by the driver (NVreg_ExcludedGpus)")
		case h.notBarred(d) != nil:
			not = append(not, h.notBarred(d).Error())
		case by != "":
			not = append(not, "GPU "+d.BusID+" is held whole by "+by)
		case leftOf(claims, d) != "":
			not = append(not, "GPU "+d.BusID+" had a MIG device, which is gone, and would get it again for "+leftOf(claims, d)+": delete that container")
		default:
			out = append(out, d)
		}
	}
	return out, not, nil
}

// wholeOf names a container that has a GPU whole.
func wholeOf(claims []Claim, d Device) string {
	for _, c := range claims {
		if slices.ContainsFunc(c.Devices, func(has Holding) bool { return has.whole() && has.BusID == d.BusID }) {
			return c.Namespace + "/" + c.ID
		}
	}
	return ""
}
