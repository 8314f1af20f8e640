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
	// kept are, by bus id, locks that are let go when a call returns that hangs, or the process ends.
	kept   map[string]keptLock
	step   func(string) // the ledger's
	wanted string       // the asks, for people
	// overIdle has an acquire take places of idle slices: there is no other room.
	overIdle bool
}

// actions are the words after mig. A release is no single use of the library.
var actions = map[string]func(*transaction) (any, error){
	"acquire": counted, "release": nil, "sweep": sweep, "ls": ls,
}

// transact reads the request and does what the word says.
func transact(word string, at location, stdin io.Reader, stdout io.Writer) (any, error) {
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
	t := &transaction{MIGRequest: q, ctx: ctx, step: step(), wanted: asked(q.Asks), kept: make(map[string]keptLock),
		now: ledger.Now{BootID: q.BootID, Driver: q.Driver, Life: lifeBut(q, "")}}
	if word == "release" {
		return t.release(at, stdout)
	}
	return t.with(at, actions[word])
}

// with has f work with the library, and lets go of it.
func (t *transaction) with(at location, f func(*transaction) (any, error)) (any, error) {
	return ask(at, func(lib *library) (any, error) {
		defer lib.close()
		t.lib = lib
		t.gpus = nil // handles are the library's
		return f(t)
	})
}

// lifeBut tells what there is of owners without the tenant that is excepted.
func lifeBut(q *wire.MIGRequest, except string) func(wire.Owner) ledger.Life {
	return func(o wire.Owner) ledger.Life {
		life, _ := ledger.OwnerLife(q.Run, q.BootID, o, except)
		return life
	}
}

// others has an owner live only if another container than the one that asks uses what it has.
func (t *transaction) others() ledger.Now {
	now := t.now
	now.Life = lifeBut(t.MIGRequest, t.For)
	return now
}

func (t *transaction) dir(busID string) (*ledger.Dir, error) {
	return ledger.Open(t.Run, busID, t.step)
}

// lock waits for a GPU's lock and reads the GPU as it is under it.
func (t *transaction) lock(ctx context.Context, g *slicedGPU) (*ledger.Locked, error) {
	return t.lockBy(g, func(d *ledger.Dir) (*ledger.Locked, error) { return d.Lock(ctx) })
}

// tryLock is lock for what is not worth waiting.
func (t *transaction) tryLock(g *slicedGPU) (*ledger.Locked, error) {
	return t.lockBy(g, (*ledger.Dir).TryLock)
}

func (t *transaction) lockBy(g *slicedGPU, take func(*ledger.Dir) (*ledger.Locked, error)) (*ledger.Locked, error) {
	if g.closed {
		return nil, g.failed
	}
	if g.lib.hung != nil { // it would hold up the next one in vain, or wait for itself
		return nil, g.lib.hung
	}
	d, err := t.dir(g.BusID)
	if err != nil {
		return nil, err
	}
	l, err := take(d)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ledger.ErrLocked) {
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

// unlock lets the next one in; while a call to the GPU hangs, which may yet do its work, not before
// that has returned.
func (t *transaction) unlock(l *ledger.Locked, g *slicedGPU) error {
	if g.lib.hung == nil {
		return l.Unlock()
	}
	over := make(chan struct{})
	t.kept[g.BusID] = keptLock{over: over, hung: g.lib.hung}
	go func() { // which nobody waits for: it ends with the process at the latest
		<-g.lib.late
		_ = l.Unlock()
		close(over)
	}()
	return nil
}

// keptLock is one that a call holds which hangs.
type keptLock struct {
	over <-chan struct{} // closed once it was let go
	hung *wire.Error
}

// hangs is the error of a call that holds the lock of a GPU: until it returns, that GPU is asked nothing.
func (t *transaction) hangs(busID string) *wire.Error {
	k, ok := t.kept[busID]
	if !ok {
		return nil
	}
	select {
	case <-k.over:
		return nil
	default:
		return k.hung
	}
}

// share is one nth of the time that there is, and no more than is worth waiting for while there is
// something else to do.
func share(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	own := time.Until(deadline) / time.Duration(n)
	if n > 1 {
		own = min(own, mostPatience)
	}
	return context.WithTimeout(ctx, own)
}
