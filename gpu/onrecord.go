// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"

	"berth/gpu/ledger"
)

// A MIG device that Berth has made is its container's alone. What others ask for
// by "all", by name, by the environment, a mount or CDI are devices that
// somebody else has made. Which are Berth's the ledger says, by the id of the
// GPU instance: it is on record before there is a compute instance in it, and
// as long as there is, and only what has a compute instance is seen as a device.
// So who looks at the devices first and at the ledger then takes none for
// another's that is Berth's. One that is made a moment later, in the place of
// one that was seen, is noticed by whichever of the two comes last to its second
// look (settle, strangers).

// onRecord is what the ledger has of one GPU. What is there of another boot, or
// loading of the driver, is gone.
type onRecord struct {
	whole  string         // what was made of it: nobody gets it whole
	made   map[int]string // the same, by the id of the GPU instance
	unread string         // why more may have been made than that
}

// of says for whom an instance was made; empty if it is not Berth's.
func (o onRecord) of(gi int) string {
	if o.made[gi] == "" {
		return o.unread
	}
	return o.made[gi]
}

// records are those of all GPUs, by bus id.
func (p *Planner) records() (map[string]onRecord, error) {
	gpus, err := ledger.GPUs(p.Roots.Run)
	if err != nil || len(gpus) == 0 {
		return nil, err
	}
	q, err := p.Roots.MIGRequest(0)
	if err != nil {
		return nil, err
	}
	now, out := ledger.Now{BootID: q.BootID, Driver: q.Driver}, map[string]onRecord{}
	for _, busID := range gpus {
		dir, err := ledger.Open(p.Roots.Run, busID, nil)
		if err != nil {
			return nil, err
		}
		records, torn, err := dir.Read()
		if err != nil {
			return nil, err
		}
		o := onRecord{made: map[int]string{}}
		for _, r := range records {
			if !r.Same(now) {
				continue
			}
			o.whole = fmt.Sprintf("%s of it was made for %s/%s (%s; `berth gpu ls`)", r.Name, r.Owner.Namespace, r.Owner.Container, r.State)
			if r.GI != nil {
				o.made[*r.GI] = fmt.Sprintf("%s (gi%d) was made for %s/%s (%s; `berth gpu ls`)", r.Name, *r.GI, r.Owner.Namespace, r.Owner.Container, r.State)
			}
		}
		if len(torn) > 0 {
			o.unread = fmt.Sprintf("for whom it was made cannot be told: %s cannot be read (%v; see `berth gpu reclaim`)",
				filepath.Join(ledger.Root(p.Roots.Run), busID, torn[0].ID+".json"), torn[0].Err)
		}
		out[busID] = o
	}
	return out, nil
}

// recall marks what MIG devices are other containers'. One that was seen, and is
// neither on record nor there any more, was destroyed between the two looks.
func recall(inv *Inventory, records map[string]onRecord) {
	for i := range inv.Devices {
		d := &inv.Devices[i]
		d.record = records[d.BusID]
		if !slices.ContainsFunc(d.MIG, func(in Instance) bool { return d.record.of(in.GI) == "" }) {
			continue
		}
		there := readInstances(inv.roots, d.Minor)
		d.MIG = slices.DeleteFunc(d.MIG, func(in Instance) bool {
			return d.record.of(in.GI) == "" && !slices.ContainsFunc(there, func(now Instance) bool { return now.GI == in.GI && now.CI == in.CI })
		})
	}
}

func theirsErr(what, whose string) error {
	return fmt.Errorf("%s is another's: %s; ask for a MIG device of the container's own by %smig, which the containers of a pod share by %[3]smig-share: %w",
		what, whose, AnnotationPrefix, errdefs.ErrFailedPrecondition)
}

// strangers refuses slices that a container could use for which they were not
// made: it was given a MIG device of somebody else's that is gone since, and
// these have its id, and its nodes.
func (h *Hook) strangers(made []Slice) error {
	claims, err := h.Roots.Claims()
	for _, c := range claims {
		for _, s := range made {
			if c.Slices == nil && slices.ContainsFunc(c.Devices, func(has Holding) bool { return has.BusID == s.BusID && has.MIG != nil && has.MIG.GI == s.GI }) {
				return fmt.Errorf("the instance gi%d that was made on the GPU at %s has the nodes of one that is gone, which %s/%s was given: delete that container: %w",
					s.GI, s.BusID, c.Namespace, c.ID, errdefs.ErrFailedPrecondition)
			}
		}
	}
	return err
}

// leftOf names a container that was given a MIG device of a GPU which is gone
// since, and which it could use again if one of that id were made.
func leftOf(claims []Claim, d Device) string {
	for _, c := range claims {
		for _, has := range c.Devices {
			if c.Slices == nil && has.BusID == d.BusID && has.MIG != nil && !slices.ContainsFunc(d.MIG, func(in Instance) bool { return in.GI == has.MIG.GI }) {
				return fmt.Sprintf("%s/%s (gi%d)", c.Namespace, c.ID, has.MIG.GI)
			}
		}
	}
	return ""
}
