// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"

	"berth/gpu/ledger"
	wire "berth/gpu/nvml"
)

// transaction is one run of `berth-gpu mig`. It holds the lock of at most one GPU at a time, so no
// two can wait for each other, and those of different GPUs never wait.
type transaction struct {
	*wire.MIGRequest
	ctx  context.Context // ends with the request's deadline
	lib  *library
	gpus []*slicedGPU // those that were asked so far
	now  ledger.Now
	// patientNow has a GPU's lock waited for to the end: there is no other GPU to go on with.
	patientNow bool
	// kept are locks that the end of the process lets go.
	kept []*ledger.Locked
	step func(string) // the ledger's
}

// actions are the words after mig.
var actions = map[string]func(*transaction) (any, error){
	"acquire": acquire, "release": release, "sweep": sweep, "ls": ls,
}

// transact reads the request and does what the word says.
func transact(word string, at location, stdin io.Reader) (any, error) {
	q, err := wire.DecodeMIGRequest(stdin)
	if err == nil && q.Owner == nil && (word == "acquire" || word == "release") {
		err = fmt.Errorf("%s without an owner: %w", word, errdefs.ErrInvalidArgument)
	}
	if err == nil && len(q.Asks) == 0 && word == "acquire" {
		err = fmt.Errorf("acquire asks for nothing: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, &wire.Error{Code: wire.CodeBadRequest, Message: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(q.TimeoutMS)*time.Millisecond)
	defer cancel()
	t := &transaction{MIGRequest: q, ctx: ctx, step: step(),
		now: ledger.Now{BootID: q.BootID, Driver: q.Driver, Alive: ledger.Alive}}
	return ask(at, func(lib *library) (any, error) {
		t.lib = lib
		return actions[word](t)
	})
}

func (t *transaction) dir(busID string) (*ledger.Dir, error) {
	return ledger.Open(t.Run, busID, t.step)
}

// lock waits for a GPU's lock and reads the GPU as it is under it.
func (t *transaction) lock(ctx context.Context, g *slicedGPU) (*ledger.Locked, error) {
	if g.failed != nil {
		return nil, g.failed
	}
	d, err := t.dir(g.BusID)
	if err != nil {
		return nil, err
	}
	l, err := d.Lock(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, &wire.Error{Code: wire.CodeLocked, Message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	if failed := g.read(); failed != nil {
		return nil, errors.Join(failed, t.unlock(l, g))
	}
	return l, nil
}

// unlock lets the next one in, unless a call to the GPU hangs, which may yet do its work.
func (t *transaction) unlock(l *ledger.Locked, g *slicedGPU) error {
	if g.lib.hung != nil {
		t.kept = append(t.kept, l)
		return nil
	}
	return l.Unlock()
}

// share is one nth of the time that there is.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
}
