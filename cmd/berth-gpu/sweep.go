// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"errors"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// sweep puts right what dead owners and crashes left, on all GPUs of the ledger.
func sweep(t *transaction) (any, error) {
	report, err := t.sweep()
	if err != nil {
		return nil, err
	}
	return wire.MIGReport{Actions: append([]wire.MIGAction{}, report...)}, nil
}

func (t *transaction) sweep() (out []wire.MIGAction, err error) {
	dirs, err := ledger.GPUs(t.Run)
	if err != nil {
		return nil, err
	}
	for _, busID := range dirs {
		report, err := t.sweepGPU(busID)
		if out = append(out, report...); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (t *transaction) sweepGPU(busID string) (out []wire.MIGAction, retErr error) {
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
	l, err := t.lock(t.ctx, g)
	if err != nil {
		return nil, err
	}
	defer func() { retErr = errors.Join(retErr, l.Unlock()) }()
	return t.reconcile(l, g, t.now, func(*ledger.Record) bool { return true })
}
