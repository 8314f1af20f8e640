// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"context"
	"errors"
	"slices"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// giveBack destroys the instances of the records that mine says yes to, on each GPU that has one.
// An error of one GPU keeps it from no other.
func (t *transaction) giveBack(ctx context.Context, now ledger.Now, mine func(*ledger.Record) bool) (out []wire.MIGAction, all error) {
	dirs, all := ledger.GPUs(t.Run)
	for i, busID := range dirs {
		d, err := t.dir(busID)
		if err != nil {
			return out, err
		}
		records, _, err := d.Read()
		var report []wire.MIGAction
		if err == nil && slices.ContainsFunc(records, mine) {
			own, cancel := share(ctx, len(dirs)-i)
			report, err = t.giveBackOn(own, busID, now, mine)
			cancel()
		}
		out, all = append(out, report...), errors.Join(all, err)
	}
	return out, all
}

func (t *transaction) giveBackOn(ctx context.Context, busID string, now ledger.Now, mine func(*ledger.Record) bool) (out []wire.MIGAction, retErr error) {
	if hung := t.hangs(busID); hung != nil { // in a try before this one
		return nil, about(busID, hung)
	}
	g := t.gpu(busID)
	l, err := t.lock(ctx, g)
	if err != nil {
		return nil, about(busID, err)
	}
	defer func() { retErr = errors.Join(retErr, t.unlock(l, g)) }()
	return t.reconcile(l, g, now, mine)
}

// about says which GPU an error is of.
func about(busID string, err error) *wire.Error {
	failed := *failure(err)
	failed.Message = "GPU " + busID + ": " + failed.Message
	return &failed
}
