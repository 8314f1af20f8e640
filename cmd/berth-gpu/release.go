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

// release sees to it that what the owner's group has is taken back. It answers as soon as all that can
// be done at once is done, and goes on: a container's end waits for nobody's process. What is in use is
// tried again, as is what another transaction or the driver was in the way of; between tries the driver
// is let go of. What is left when the time for that is over is a Zombie, and left to a sweep. What is
// kept idle is given up when its time is over, if it was not taken over by then.
//
// Nobody is there to kill it if the driver hangs where it is not waited for with patience (as it is
// loaded, initialised and let go of): so it ends with the process soon after the deadline.
func (t *transaction) release(at location, stdout io.Writer) (any, error) {
	signal.Ignore(unix.SIGPIPE) // nobody may read the answer
	type ending struct {
		answer any
		err    error
	}
	done := make(chan ending, 1)
	go func() {
		answer, err := t.releaseAll(at, stdout)
		done <- ending{answer, err}
	}()
	deadline, _ := t.ctx.Deadline()
	timer := time.NewTimer(time.Until(deadline) + t.patience()) // for the call that began before it
	defer timer.Stop()
	select {
	case e := <-done:
		return e.answer, e.err
	case <-timer.C:
		return nil, &wire.Error{Code: "ERROR_TIMEOUT", Message: "the driver gave no answer until long after the deadline"}
	}
}

// busyTime is how long a release tries what is in its way: all of its time, but for that for which
// something is kept idle. Who keeps for longer than he gives it has nobody watch over that.
func (t *transaction) busyTime() time.Duration {
	ms := t.TimeoutMS
	if ms > t.KeepIdleMS {
		ms -= t.KeepIdleMS
	}
	return time.Duration(ms) * time.Millisecond
}

// releaseAll is the release, without an end if the driver has none.
func (t *transaction) releaseAll(at location, stdout io.Writer) (any, error) {
	deadline, _ := t.ctx.Deadline()
	end := deadline // of the tries
	if own := time.Now().Add(t.busyTime()); own.Before(end) {
		end = own
	}
	report, answered := wire.MIGReport{Actions: []wire.MIGAction{}}, false
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		answer, err := t.with(at, func(t *transaction) (any, error) {
			ctx, cancel := context.WithDeadline(t.ctx, end)
			defer cancel()
			actions, err := t.giveBack(ctx, t.now, t.isOwners)
			_ = ledger.Prune(t.Run, t.BootID) // that it cannot be done is no reason to try again
			return actions, err
		})
		actions, _ := answer.([]wire.MIGAction)
		report.Actions = append(slices.DeleteFunc(report.Actions, func(a wire.MIGAction) bool { // the last word counts
			return slices.ContainsFunc(actions, func(b wire.MIGAction) bool { return a.ID == b.ID })
		}), actions...)
		idle, busy, ledgerErr := t.pending()
		err = errors.Join(err, ledgerErr)
		busy = busy || err != nil
		again := time.Now().Add(pause)
		trying := busy && !again.After(end)
		if !trying {
			again = idle
		}
		switch over := again.IsZero() || again.After(deadline) || busy && !trying && time.Until(again) <= 0; {
		case over && answered:
			return nil, nil
		case over && err != nil:
			return nil, err
		case over:
			return report, nil
		case !answered && err == nil && (!trying || pause >= settled):
			answered = true
			if err := answerEarly(stdout, report); err != nil {
				return nil, err
			}
		}
		if trying {
			time.Sleep(time.Until(again)) // nothing tells when a device is free
			continue
		}
		if left, err := t.watch(again); err != nil || !left {
			return nil, err
		}
		if end = time.Now().Add(t.busyTime()); end.After(deadline) {
			end = deadline
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

// watch waits for the end of the time that something is kept idle. At each change of the ledger it looks
// whether that is left: a slice that was taken over needs no watchman.
func (t *transaction) watch(until time.Time) (left bool, err error) {
	changes, err := ledger.NewWatch(t.Run)
	if err != nil { // a user has but few of them (inotify(7)): without one it stays to the end
		time.Sleep(time.Until(until))
		return true, nil
	}
	defer changes.Close()
	for time.Until(until) > 0 {
		if idle, busy, err := t.pending(); err != nil || idle.IsZero() {
			return busy, err
		}
		if err := changes.Wait(until); err != nil {
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
