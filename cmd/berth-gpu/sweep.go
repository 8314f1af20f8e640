// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"context"
	"errors"
	"time"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// sweep puts right what dead owners and crashes left, on all GPUs of the ledger. What it could not
// do on one GPU keeps it from no other; it is an error after that.
func sweep(t *transaction) (any, error) {
	if t.GiveUpIdle {
		t.now.At = time.Unix(1<<40, 0)
	}
	report, err := t.sweep(t.ctx)
	if err == nil && !t.DryRun {
		err = ledger.Prune(t.Run, t.BootID)
	}
	if err != nil {
		return nil, err
	}
	return wire.MIGReport{Actions: append([]wire.MIGAction{}, report...)}, nil
}

func (t *transaction) sweep(ctx context.Context) (out []wire.MIGAction, all error) {
	dirs, all := ledger.GPUs(t.Run)
	for _, busID := range dirs {
		report, err := t.sweepGPU(ctx, busID)
		out, all = append(out, report...), errors.Join(all, err)
	}
	return out, all
}

// sweepAside is the sweep of an acquire that found no room. A GPU that is locked for longer is in
// a transaction, which sweeps it; one that cannot be swept has no room: neither is an error.
func (t *transaction) sweepAside() {
	deadline, _ := t.ctx.Deadline()
	ctx, cancel := context.WithTimeout(t.ctx, time.Until(deadline)/4)
	defer cancel()
	if _, err := t.sweep(ctx); err != nil {
		t.broken = append(t.broken, failure(err))
	}
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
	if g == nil {
		return nil, nil // its records wait until it answers
	}
	l, err := t.lock(ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { retErr = errors.Join(retErr, l.Unlock()) }()
	return t.reconcile(l, g, t.now, func(*ledger.Record) bool { return true })
}
