// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"berth/gpu/ledger"
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
	sliced, err := p.sliced()
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
// whose. What is on record of another boot, or loading of the driver, is gone.
func (p *Planner) sliced() (map[string]string, error) {
	records, _, err := ledger.Records(p.Roots.Run)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	if len(records) > 0 {
		q, err := p.Roots.MIGRequest(0)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if r.Same(ledger.Now{BootID: q.BootID, Driver: q.Driver}) {
				out[r.BusID] = fmt.Sprintf("%s of it was made for %s/%s (%s; `berth gpu ls`)", r.Name, r.Owner.Namespace, r.Owner.Container, r.State)
			}
		}
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

// settle puts on record which GPUs a container is given whole, and then makes
// sure that nobody has begun to slice one of them.
func (h *Hook) settle(claim *Claim) error {
	if !slices.ContainsFunc(claim.Devices, Holding.whole) {
		return nil
	}
	if err := h.Roots.writeClaim(claim); err != nil {
		return err
	}
	sliced, err := h.sliced()
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
