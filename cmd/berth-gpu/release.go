// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// A process that ended may be a client of the driver for a moment yet: its memory is taken down
// in the background, and nothing tells when that is over. That moment is worth waiting for before
// the answer, a longer use is not.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 5 * time.Second
	settled    = 8 * firstPause
)

// release sees to it that what the owner's group has is taken back, until the deadline. It answers
// as soon as all that can be done at once is done, and goes on: a container's end waits for nobody's
// process. What is in use is tried again, as is what another transaction or the driver was in the
// way of; between tries the driver is let go of. What is left at the deadline is a Zombie, and left
// to a sweep. What is kept idle is given up when its time is over, if it was not taken over by then.
func (t *transaction) release(at location, stdout io.Writer) (any, error) {
	signal.Ignore(unix.SIGPIPE) // nobody may read the answer
	deadline, _ := t.ctx.Deadline()
	changes, err := ledger.NewWatch(t.Run)
	if err != nil {
		return nil, err
	}
	defer changes.Close()
	report, answered := wire.MIGReport{Actions: []wire.MIGAction{}}, false
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		answer, err := t.with(at, giveBack)
		actions, _ := answer.([]wire.MIGAction)
		report.Actions = append(slices.DeleteFunc(report.Actions, func(a wire.MIGAction) bool { // the last word counts
			return slices.ContainsFunc(actions, func(b wire.MIGAction) bool { return a.ID == b.ID })
		}), actions...)
		idle, busy, ledgerErr := t.pending()
		err = errors.Join(err, ledgerErr)
		again := time.Now().Add(pause)
		if err == nil && !busy {
			again = idle
		}
		switch over := again.IsZero() || again.After(deadline); {
		case over && answered:
			return nil, nil
		case over && err != nil:
			return nil, err
		case over:
			return report, nil
		case !answered && err == nil && (!busy || pause >= settled):
			answered = true
			if err := answerEarly(stdout, report); err != nil {
				return nil, err
			}
		}
		if left, err := t.wait(changes, again, err != nil || busy); err != nil || !left {
			return nil, err
		}
	}
}

// pending is what is left of the group: until when something is kept idle, and whether there is
// something else, but for what has tenants.
func (t *transaction) pending() (idle time.Time, busy bool, err error) {
	records, _, err := ledger.Records(t.Run)
	for _, r := range records {
		switch {
		case !t.isOwners(r) || r.State == ledger.Ready && t.now.Life(r.Owner) != ledger.Gone:
		case !isIdle(r):
			busy = true
		case idle.IsZero() || r.Until.Before(idle):
			idle = r.Until
		}
	}
	return idle, busy, err
}

// wait waits for a time. While something is only kept idle it looks, at each change of the ledger,
// whether that is left: a slice that was taken over needs no watchman.
func (t *transaction) wait(changes *ledger.Watch, again time.Time, busy bool) (left bool, err error) {
	if busy {
		time.Sleep(time.Until(again)) // nothing tells when a device is free
		return true, nil
	}
	for time.Until(again) > 0 {
		if err := changes.Wait(again); err != nil {
			return false, err
		}
		if idle, busy, err := t.pending(); err != nil || idle.IsZero() && !busy {
			return false, err
		}
	}
	return true, nil
}

// answerEarly gives the answer while there is work left to do.
func answerEarly(stdout io.Writer, report wire.MIGReport) error {
	if err := json.NewEncoder(stdout).Encode(report); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	f, ok := stdout.(*os.File)
	if !ok {
		return nil
	}
	// Its end is that of the answer. The driver's library may write to the descriptor yet.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Dup3(int(null.Fd()), int(f.Fd()), unix.O_CLOEXEC), null.Close())
}

// giveBack is one try of a release. Tenants that died before they had a claim are forgotten with it, as
// nobody deletes them; that they cannot be is no reason to try again.
func giveBack(t *transaction) (any, error) {
	actions, err := t.giveBack(t.ctx, t.now, t.isOwners)
	_ = ledger.Prune(t.Run, t.BootID)
	return actions, err
}

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
