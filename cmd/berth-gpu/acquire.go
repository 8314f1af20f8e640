// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"berth/gpu/ledger"
	"berth/gpu/mig"
	wire "berth/gpu/nvml"
)

// undoTimeout bounds the wait for the locks of an acquire that failed, when its own deadline may
// be over.
const undoTimeout = 5 * time.Second

// errTaken says that somebody else was faster.
var errTaken = errors.New("the place was taken meanwhile")

// errNone says that there is no GPU to choose from.
var errNone = fmt.Errorf("no GPU can be used: %w", errdefs.ErrFailedPrecondition)

// acquire makes all that the owner asks for, or nothing. What the owner has already it is given, if
// others share it; else it is of an acquire whose answer was lost, and is given back first.
func acquire(t *transaction) (any, error) {
	if _, err := t.giveBack(t.ctx, t.others(), t.isOwners); err != nil {
		return nil, err
	}
	if t.Share {
		if has, err := t.join(); err != nil || has != nil {
			return wire.MIGAcquired{Slices: has}, err
		}
	}
	if failed := t.survey(); failed != nil {
		return nil, failed
	}
	all := t.Asks
	taken := t.takeOver()
	var made []wire.Slice
	var err error
	if slices.Contains(taken, nil) {
		made, err = t.make()
	}
	if err == nil {
		return wire.MIGAcquired{Slices: merge(taken, made)}, nil
	}
	some := merge(taken, nil)
	if undo := t.undo(some); undo != nil || len(some) == 0 || !errdefs.IsResourceExhausted(err) {
		return nil, errors.Join(undo, err)
	}
	// What was idle may be in the way of the rest.
	t.Asks = all
	if made, err = t.make(); err != nil {
		return nil, err
	}
	return wire.MIGAcquired{Slices: made}, nil
}

// merge puts what was made into the places where nothing was taken over.
func merge(taken []*wire.Slice, made []wire.Slice) (out []wire.Slice) {
	for _, s := range taken {
		if s == nil && len(made) > 0 {
			s, made = &made[0], made[1:]
		}
		if s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// make makes what is asked for, all of it or nothing.
func (t *transaction) make() ([]wire.Slice, error) {
	swept := false
	for {
		choices, err := t.choose()
		switch {
		case err == nil:
		case errdefs.IsResourceExhausted(err) && !swept:
			swept = true
			t.sweepAside()
			continue
		case errdefs.IsResourceExhausted(err) && !t.overIdle:
			t.overIdle = true
			continue
		case t.turnOn(), t.waitForBusy():
			continue
		default:
			return nil, t.refusal(err)
		}
		made, err := t.makeAll(choices)
		if err == nil {
			return made, nil
		}
		if undo := t.undo(made); undo != nil {
			return nil, errors.Join(undo, err)
		}
		if t.ctx.Err() != nil {
			return nil, t.refusal(fmt.Errorf("the time is over: %w: %w", err, errdefs.ErrResourceExhausted))
		}
	}
}

// passOver has the transaction go on without a GPU that it could not use, whatever it was: others may
// do. A place that somebody took is no reason: the GPU may have another.
func (t *transaction) passOver(g *slicedGPU, err error) {
	failed := failure(err)
	switch {
	case errors.Is(err, errTaken):
	case failed.Code == wire.CodeLocked && !t.patientNow:
		g.busy = true
	default:
		g.failed = failed
	}
}

// waitForBusy has the GPUs count again whose locks others had, and waited for as long as there is time.
// It says whether there are any.
func (t *transaction) waitForBusy() (any bool) {
	t.patientNow = true
	for _, g := range t.gpus {
		any, g.busy = any || g.busy, false
	}
	return any
}

func (t *transaction) isOwners(r *ledger.Record) bool {
	return r.Owner.Group == t.Owner.Group
}

// choose finds places on the GPUs as they are now, without locks.
func (t *transaction) choose() ([]mig.Choice, error) {
	var gpus []mig.GPU
	for _, g := range t.gpus {
		if g.failed != nil || g.busy {
			continue
		}
		if g.failed = g.read(); g.failed != nil || !g.on {
			continue
		}
		if why, err := t.leftAlone(g); err != nil {
			return nil, err
		} else if why != "" {
			continue
		}
		shown := g.GPU
		if t.overIdle {
			var err error
			if shown, err = t.withoutIdle(g); err != nil {
				return nil, err
			}
		}
		gpus = append(gpus, shown)
	}
	if len(gpus) == 0 {
		return nil, errNone
	}
	return mig.Choose(gpus, t.asks())
}

func (t *transaction) asks() []mig.Ask {
	var out []mig.Ask
	for _, a := range t.Asks {
		out = append(out, mig.Ask{Profile: a.Profile, Memory: a.Memory, Count: a.Count})
	}
	return out
}

// makeAll makes the choices, GPU by GPU. What it made before an error it returns too.
func (t *transaction) makeAll(choices []mig.Choice) (made []wire.Slice, err error) {
	out := make([]wire.Slice, len(choices))
	var done []wire.Slice
	for i, c := range choices {
		if slices.ContainsFunc(choices[:i], func(b mig.Choice) bool { return b.BusID == c.BusID }) {
			continue
		}
		var indices []int
		for j := i; j < len(choices); j++ {
			if choices[j].BusID == c.BusID {
				indices = append(indices, j)
			}
		}
		g := t.gpu(c.BusID)
		some, err := t.makeOn(g, choices, indices)
		done = append(done, some...)
		if err != nil {
			t.passOver(g, err)
			return done, err
		}
		for n, j := range indices {
			out[j] = some[n]
		}
	}
	return out, nil
}

// makeOn makes the choices of one GPU under its lock, where they still fit.
func (t *transaction) makeOn(g *slicedGPU, choices []mig.Choice, indices []int) (made []wire.Slice, retErr error) {
	ctx, cancel := t.ctx, context.CancelFunc(func() {})
	if !t.patientNow {
		ctx, cancel = share(t.ctx, patienceShare)
	}
	defer cancel()
	l, err := t.lock(ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { retErr = errors.Join(retErr, t.unlock(l, g)) }()
	if _, err := t.reconcile(l, g, t.now, func(*ledger.Record) bool { return true }); err != nil {
		return nil, err
	}
	if failed := g.read(); failed != nil {
		return nil, failed
	}
	if why, err := t.leftAlone(g); err != nil || why != "" {
		return nil, errors.Join(errTaken, err)
	}
	// What could not be taken over before, since the lock was somebody's, can be now.
	wants, taken := make([]wire.MIGAsk, len(indices)), make([]*wire.Slice, len(indices))
	for n, j := range indices {
		wants[n] = wire.MIGAsk{Profile: choices[j].Profile.Name, Count: 1}
	}
	err = t.takeIdle(l, g, wants, taken)
	defer func() { made = merge(taken, made) }()
	if err != nil || !slices.Contains(taken, nil) {
		return nil, err
	}
	var asks []mig.Ask
	for n, a := range wants {
		if taken[n] == nil {
			asks = append(asks, mig.Ask{Profile: a.Profile, Count: 1})
		}
	}
	again, err := mig.Choose([]mig.GPU{g.GPU}, asks)
	if t.overIdle && errdefs.IsResourceExhausted(err) {
		again, err = t.makeRoom(l, g, asks)
	}
	if errdefs.IsResourceExhausted(err) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	for _, c := range again {
		s, err := t.makeOne(l, g, c)
		if err != nil {
			return made, err
		}
		made = append(made, *s)
	}
	return made, nil
}

// makeOne is the heart of it: each step is on record before it is taken.
func (t *transaction) makeOne(l *ledger.Locked, g *slicedGPU, c mig.Choice) (*wire.Slice, error) {
	before, failed := g.instances()
	if failed != nil {
		return nil, failed
	}
	r := &ledger.Record{ID: ledger.NewID(), BootID: t.BootID, Driver: t.Driver, GPU: g.UUID, BusID: g.BusID,
		Profile: c.Profile.ID, Name: c.Profile.Name, Place: place(c.Placement), Owner: *t.Owner, Began: time.Now().UTC()}
	for _, in := range before {
		r.Before = append(r.Before, ledger.Known{GI: in.GI, Place: place(in.Placement)})
	}
	if err := l.Write(r, ledger.Intent); err != nil {
		return nil, err
	}
	handle, failed := g.create(c.Profile, c.Placement)
	if failed != nil && refused(failed) {
		if err := l.Remove(r.ID); err != nil {
			return nil, errors.Join(failed, err)
		}
		if failed.Code == "ERROR_INSUFFICIENT_RESOURCES" && g.taken(c) {
			return nil, errTaken
		}
		return nil, failed
	}
	if failed != nil { // it may be there all the same
		return nil, errors.Join(failed, t.undoOne(l, g, r))
	}
	s, err := t.finish(l, g, r, c, instance{handle: handle})
	if err != nil {
		return nil, errors.Join(err, t.undoOne(l, g, r))
	}
	return s, nil
}

// taken says that somebody has the place. Else what the driver lacks is something else, and will be
// lacking when it is asked again.
func (g *slicedGPU) taken(c mig.Choice) bool {
	return g.read() == nil && !slices.Contains(g.Fits(c.Profile), c.Placement)
}

func (t *transaction) finish(l *ledger.Locked, g *slicedGPU, r *ledger.Record, c mig.Choice, in instance) (*wire.Slice, error) {
	in, failed := g.describe(in.handle)
	if failed != nil {
		return nil, failed
	}
	if in.Placement != c.Placement || in.Profile != c.Profile.ID {
		return nil, fmt.Errorf("the driver made %+v, asked for %s at %+v: %w", in.Instance, c.Profile.Name, c.Placement, errdefs.ErrInternal)
	}
	r.GI = &in.GI
	if err := l.Write(r, ledger.GICreated); err != nil {
		return nil, err
	}
	return t.fill(l, g, r, c.Profile, in)
}

// fill makes the compute instance of a record that is GICreated.
func (t *transaction) fill(l *ledger.Locked, g *slicedGPU, r *ledger.Record, p mig.Profile, in instance) (*wire.Slice, error) {
	whole, failed := g.wholeCompute(in, p)
	if failed != nil {
		return nil, failed
	}
	if err := l.Write(r, ledger.CIIntent); err != nil {
		return nil, err
	}
	ci, failed := g.createCompute(in, whole)
	if failed != nil {
		return nil, failed
	}
	r.CI, r.MIG = &ci.id, ci.uuid
	if err := l.Write(r, ledger.Ready); err != nil {
		return nil, err
	}
	s := g.slice(r)
	return &s, nil
}

// refused says that the driver did nothing. After any other error something may be there.
func refused(e *wire.Error) bool {
	return slices.Contains([]string{"ERROR_INSUFFICIENT_RESOURCES", "ERROR_NO_PERMISSION", "ERROR_NOT_SUPPORTED",
		"ERROR_INVALID_ARGUMENT", "ERROR_FUNCTION_NOT_FOUND", "ERROR_IN_USE"}, e.Code)
}

// undoOne destroys what was made of a record, under the lock that it was made under.
func (t *transaction) undoOne(l *ledger.Locked, g *slicedGPU, r *ledger.Record) error {
	_, err := t.reconcile(l, g, nobody(t.now), func(o *ledger.Record) bool { return o.ID == r.ID })
	return err
}

// nobody has every owner gone.
func nobody(now ledger.Now) ledger.Now {
	now.Life = func(wire.Owner) ledger.Life { return ledger.Gone }
	return now
}

// undo gives back slices that are ready.
func (t *transaction) undo(made []wire.Slice) error {
	if len(made) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	_, err := t.giveBack(ctx, nobody(t.now), func(r *ledger.Record) bool {
		return slices.ContainsFunc(made, func(s wire.Slice) bool { return s.ID == r.ID })
	})
	return err
}
