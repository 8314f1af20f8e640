// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// sweep puts right what dead owners and crashes left, on all GPUs of the ledger. What it could not
// do on one GPU keeps it from no other: it is in the report, record by record.
func sweep(t *transaction) (any, error) {
	if t.GiveUpIdle {
		t.now.At = time.Unix(1<<40, 0)
	}
	dirs, err := ledger.GPUs(t.Run)
	if err != nil {
		return nil, err
	}
	report := t.sweep(t.ctx, dirs)
	if !t.DryRun {
		err = ledger.Prune(t.Run, t.BootID)
	}
	return wire.MIGReport{Actions: append([]wire.MIGAction{}, report...)}, err
}

func (t *transaction) sweep(ctx context.Context, dirs []string) (out []wire.MIGAction) {
	for i, busID := range dirs {
		own, cancel := share(ctx, len(dirs)-i)
		report, err := t.sweepGPU(own, busID)
		cancel()
		if err != nil {
			report = append(report, t.unswept(busID, report, err)...)
		}
		out = append(out, report...)
	}
	return out
}

// unswept are the records of a GPU that an error kept a sweep from, beside those that it had done.
func (t *transaction) unswept(busID string, done []wire.MIGAction, err error) (out []wire.MIGAction) {
	var records []*ledger.Record
	d, dirErr := t.dir(busID)
	if dirErr == nil {
		records, _, _ = d.Read()
	}
	for _, r := range records {
		if !slices.ContainsFunc(done, func(a wire.MIGAction) bool { return a.ID == r.ID }) {
			out = append(out, told(r, wire.Unreached, err.Error()))
		}
	}
	if len(out) == 0 {
		out = append(out, wire.MIGAction{BusID: busID, State: "unknown", Did: wire.Unreached, Why: err.Error()})
	}
	return out
}

// sweepAside is the sweep of an acquire that found no room, of the GPUs that it may use. A GPU that is
// locked for longer is in a transaction, which sweeps it; one that cannot be swept has no room: neither
// is an error.
//
// Nor is it that tenants cannot be forgotten: a sweep that is asked for says it.
func (t *transaction) sweepAside() {
	dirs, err := ledger.GPUs(t.Run)
	if err != nil {
		return // the next look at the ledger says it
	}
	ctx, cancel := share(t.ctx, patienceShare)
	defer cancel()
	t.sweep(ctx, slices.DeleteFunc(dirs, func(busID string) bool { return !t.mayUse(busID) }))
	_ = ledger.Prune(t.Run, t.BootID)
}

func (t *transaction) sweepGPU(ctx context.Context, busID string) (out []wire.MIGAction, retErr error) {
	d, err := t.dir(busID)
	if err != nil {
		return nil, err
	}
	if empty, err := d.Empty(); err != nil || empty {
		return nil, err
	}
	g := t.gpu(busID)
	if g.failed != nil {
		return nil, g.failed
	}
	l, err := t.lock(ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { retErr = errors.Join(retErr, t.unlock(l, g)) }()
	return t.reconcile(l, g, t.now, func(*ledger.Record) bool { return true })
}
