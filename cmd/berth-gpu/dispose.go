// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"errors"
	"slices"
	"time"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// told is an action about a record as it is now.
func told(r *ledger.Record, did wire.Deed, why string) wire.MIGAction {
	owner := r.Owner
	return wire.MIGAction{BusID: r.BusID, ID: r.ID, State: string(r.State), Owner: &owner, GI: r.GI, Place: r.Place, Did: did, Why: why, Since: r.Began}
}

// reconcile judges the records of a GPU, under its lock, and does what is to be done. Those that
// choose says no to are left alone.
func (t *transaction) reconcile(l *ledger.Locked, g *slicedGPU, now ledger.Now, choose func(*ledger.Record) bool) ([]wire.MIGAction, error) {
	records, torn, err := l.Read()
	if err != nil || len(records)+len(torn) == 0 {
		return nil, err
	}
	occupants, failed := g.occupants()
	if failed != nil {
		return nil, failed
	}
	live := lives(occupants)
	var out []wire.MIGAction
	for _, r := range records {
		if !choose(r) {
			continue
		}
		v := ledger.Judge(r, records, live, now)
		a := told(r, v.Deed, v.Why)
		if v.GI >= 0 {
			a.GI = &v.GI
		}
		if !t.DryRun {
			a.Did, a.Why, err = t.carryOut(l, g, r, v, live)
			if err != nil {
				return out, err
			}
		}
		out = append(out, a)
	}
	tornActions, err := t.reconcileTorn(l, torn, records, live)
	return append(out, tornActions...), err
}

func (t *transaction) carryOut(l *ledger.Locked, g *slicedGPU, r *ledger.Record, v ledger.Verdict, live []ledger.Live) (wire.Deed, string, error) {
	switch v.Deed {
	case wire.Forgotten:
		return v.Deed, v.Why, l.Remove(r.ID)
	case wire.Destroyed:
		in := live[slices.IndexFunc(live, func(in ledger.Live) bool { return in.GI == v.GI })]
		did, dispose := v.Deed, t.dispose
		if t.KeepIdleMS > 0 && r.State == ledger.Ready {
			did, dispose = wire.Idled, t.idle
		}
		failed, err := dispose(l, g, r, in)
		if failed != nil {
			return wire.Zombie, v.Why + "; " + failed.Error(), err
		}
		return did, v.Why, err
	}
	return v.Deed, v.Why, nil
}

// dispose destroys a record's instance and removes the record. What the driver refuses is kept as
// Zombie: not an error of the transaction, but said.
func (t *transaction) dispose(l *ledger.Locked, g *slicedGPU, r *ledger.Record, in ledger.Live) (failed *wire.Error, err error) {
	if r.State != ledger.Releasing && r.State != ledger.Zombie || r.GI == nil || !r.Same(t.now) {
		r.GI = &in.GI
		if r.MIG == "" && len(in.MIG) == 1 {
			r.MIG = in.MIG[0]
		}
		r.BootID, r.Driver = t.BootID, t.Driver // if they seemed to be others, its UUID has told better
		if err := l.Write(r, ledger.Releasing); err != nil {
			return nil, err
		}
	}
	if failed = g.destroy(in.GI, r.MIG, t.isOf(r)); failed == nil {
		return nil, l.Remove(r.ID)
	}
	r.Error = failed.Error()
	return failed, l.Write(r, ledger.Zombie)
}

// idle destroys a record's compute instance, and with it all that used the slice, and keeps the GPU
// instance.
func (t *transaction) idle(l *ledger.Locked, g *slicedGPU, r *ledger.Record, in ledger.Live) (failed *wire.Error, err error) {
	r.BootID, r.Driver = t.BootID, t.Driver
	if err := l.Write(r, ledger.Releasing); err != nil {
		return nil, err
	}
	left, failed := g.empty(in.GI, r.MIG, t.isOf(r))
	switch {
	case failed != nil:
		r.Error = failed.Error()
		return failed, l.Write(r, ledger.Zombie)
	case left == nil: // somebody was faster
		return nil, l.Remove(r.ID)
	}
	r.CI, r.MIG, r.Until = nil, "", time.Now().Add(time.Duration(t.KeepIdleMS)*time.Millisecond).UTC()
	return nil, l.Write(r, ledger.Idle)
}

// isOf says of an instance whether it is the record's.
func (t *transaction) isOf(r *ledger.Record) func(ledger.Live) bool {
	return func(in ledger.Live) bool { return ledger.Explained(in, []*ledger.Record{r}, t.now) }
}

// reconcileTorn removes files that are no record if no instance can be theirs.
func (t *transaction) reconcileTorn(l *ledger.Locked, torn []ledger.Torn, records []*ledger.Record, live []ledger.Live) (out []wire.MIGAction, err error) {
	unexplained := 0
	for _, in := range live {
		if !ledger.Explained(in, records, t.now) {
			unexplained++
		}
	}
	for _, file := range torn {
		a := wire.MIGAction{BusID: l.BusID, ID: file.ID, State: "torn", Did: wire.Forgotten,
			Why: "it cannot be read (" + file.Err.Error() + "), and no instance is without a record"}
		if unexplained > 0 {
			a.Did, a.Why = wire.Kept, "it cannot be read ("+file.Err.Error()+"), and an instance without a record may be its"
		} else if !t.DryRun {
			err = errors.Join(err, l.Remove(file.ID))
		}
		out = append(out, a)
	}
	return out, err
}
