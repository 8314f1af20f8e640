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

// A process that ended may be a client of the driver for a moment yet: its memory is taken down
// in the background, and nothing tells when that is over.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 5 * time.Second
)

// release sees to it that what the owner's group has is taken back, until the deadline. Its caller
// need not wait for it: a container's end waits for nobody's process. What is in use is tried again,
// as is what another transaction or the driver was in the way of; between tries the driver is let
// go of. What is left at the deadline is a Zombie, and left to a sweep.
func (t *transaction) release(at location) (any, error) {
	deadline, _ := t.ctx.Deadline()
	done := wire.MIGReport{Actions: []wire.MIGAction{}}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		answer, err := t.with(at, giveBack)
		report, _ := answer.([]wire.MIGAction)
		zombies := slices.ContainsFunc(report, func(a wire.MIGAction) bool { return a.Did == wire.Zombie })
		if time.Until(deadline) < pause || err == nil && !zombies {
			done.Actions = append(done.Actions, report...)
			return done, err
		}
		done.Actions = append(done.Actions, slices.DeleteFunc(report, func(a wire.MIGAction) bool { return a.Did == wire.Zombie })...)
		time.Sleep(pause)
	}
}

// giveBack is one try of a release.
func giveBack(t *transaction) (any, error) { return t.giveBack(t.ctx, t.now, t.isOwners) }

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
