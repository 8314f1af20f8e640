// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"errors"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// takeOver gives the owner what is kept idle and is just what it asks for, and takes that off its
// asks. It returns the slices by the place of their ask, where there is one. A GPU from which nothing can
// be taken over is passed over, as one on which nothing can be made; one that is locked comes last.
func (t *transaction) takeOver() []*wire.Slice {
	wants := singly(t.Asks)
	taken := make([]*wire.Slice, len(wants))
	for _, g := range t.gpus {
		if slices.Contains(taken, nil) {
			if err := t.takeOverOn(g, wants, taken); err != nil {
				t.passOver(g, err)
			}
		}
	}
	var rest []wire.MIGAsk
	for i, a := range wants {
		if taken[i] == nil {
			rest = append(rest, a)
		}
	}
	if len(rest) < len(wants) {
		t.Asks = rest // as they are otherwise: errors name them
	}
	return taken
}

// singly has an ask for each slice.
func singly(asks []wire.MIGAsk) (out []wire.MIGAsk) {
	for _, a := range asks {
		n := a.Count
		a.Count = 1
		out = append(out, slices.Repeat([]wire.MIGAsk{a}, n)...)
	}
	return out
}

func isIdle(r *ledger.Record) bool { return r.State == ledger.Idle }

func (t *transaction) takeOverOn(g *slicedGPU, wants []wire.MIGAsk, taken []*wire.Slice) (retErr error) {
	if g.failed != nil || !g.on {
		return nil
	}
	d, err := t.dir(g.BusID)
	if err != nil {
		return err
	}
	if records, _, err := d.Read(); err != nil || !slices.ContainsFunc(records, isIdle) {
		return err
	}
	l, err := t.tryLock(g) // to make one elsewhere takes no longer than others' transactions
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, t.unlock(l, g)) }()
	if why, err := t.leftAlone(g); err != nil || why != "" {
		return err
	}
	return t.takeIdle(l, g, wants, taken)
}

// takeIdle takes over, under the lock, what there is for the wants that have nothing yet: of what containers of
// the same namespace of containerd had, since memory that they left may be in it.
func (t *transaction) takeIdle(l *ledger.Locked, g *slicedGPU, wants []wire.MIGAsk, taken []*wire.Slice) error {
	records, _, err := l.Read()
	if err != nil {
		return err
	}
	for i, a := range wants {
		n := slices.IndexFunc(records, func(r *ledger.Record) bool {
			return isIdle(r) && r.Owner.Namespace == t.Owner.Namespace && g.serves(r, a)
		})
		if taken[i] != nil || n < 0 {
			continue
		}
		if taken[i], err = t.takeOne(l, g, records[n], records); err != nil {
			return err
		}
	}
	return nil
}

// serves says that an idle slice is what would be made for an ask.
func (g *slicedGPU) serves(r *ledger.Record, a wire.MIGAsk) bool {
	choices, err := mig.Choose([]mig.GPU{{BusID: g.BusID, Profiles: g.Profiles}}, []mig.Ask{{Profile: a.Profile, Memory: a.Memory, Count: 1}})
	return err == nil && choices[0].Profile.ID == r.Profile
}

// takeOne gives the owner one idle slice. From its first step on it is one that is being made, and
// undone if that does not succeed. It is nil if there is no such slice any more.
func (t *transaction) takeOne(l *ledger.Locked, g *slicedGPU, r *ledger.Record, records []*ledger.Record) (*wire.Slice, error) {
	occupants, failed := g.occupants()
	if failed != nil {
		return nil, failed
	}
	v := ledger.Judge(r, records, lives(occupants), t.now)
	i := slices.IndexFunc(occupants, func(o occupant) bool { return o.GI == v.GI })
	p := slices.IndexFunc(g.Profiles, func(p mig.Profile) bool { return p.ID == r.Profile })
	if v.Deed != wire.Kept || i < 0 || p < 0 {
		return nil, nil
	}
	r.Owner, r.Began, r.Until = *t.Owner, time.Now().UTC(), time.Time{}
	if err := l.Write(r, ledger.GICreated); err != nil {
		return nil, err
	}
	s, err := t.fill(l, g, r, g.Profiles[p], occupants[i].instance)
	if err != nil {
		return nil, errors.Join(err, t.undoOne(l, g, r))
	}
	return s, nil
}

// idlePlaces are those of a GPU's idle slices.
func (t *transaction) idlePlaces(g *slicedGPU) (out []wire.Place, err error) {
	d, err := t.dir(g.BusID)
	if err != nil {
		return nil, err
	}
	records, _, err := d.Read()
	for _, r := range records {
		if isIdle(r) {
			out = append(out, r.Place)
		}
	}
	return out, err
}

// withoutIdle is the GPU as it would be if idle slices were given up.
func (t *transaction) withoutIdle(g *slicedGPU) (mig.GPU, error) {
	places, err := t.idlePlaces(g)
	out := g.GPU
	out.Instances = slices.DeleteFunc(slices.Clone(out.Instances), func(in mig.Instance) bool {
		return slices.Contains(places, place(in.Placement))
	})
	return out, err
}

// makeRoom gives up the idle slices of a GPU, under its lock, that are in the way of what is asked
// for: those at the places that are best without any; if that is not enough, all of them.
func (t *transaction) makeRoom(l *ledger.Locked, g *slicedGPU, asks []mig.Ask) ([]mig.Choice, error) {
	empty, err := t.withoutIdle(g)
	if err != nil {
		return nil, err
	}
	choices, err := mig.Choose([]mig.GPU{empty}, asks)
	if err != nil {
		return nil, err
	}
	for _, inTheWay := range []func(*ledger.Record) bool{
		func(r *ledger.Record) bool {
			return isIdle(r) && slices.ContainsFunc(choices, func(c mig.Choice) bool { return r.Place.Overlaps(place(c.Placement)) })
		},
		isIdle,
	} {
		now := t.now
		now.At = time.Unix(1<<40, 0)
		if _, err := t.reconcile(l, g, now, inTheWay); err != nil {
			return nil, err
		}
		if failed := g.read(); failed != nil {
			return nil, failed
		}
		if choices, err = mig.Choose([]mig.GPU{g.GPU}, asks); !errdefs.IsResourceExhausted(err) {
			return choices, err
		}
	}
	return nil, err
}
