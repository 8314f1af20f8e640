// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
)

// The times that an answer may take. Whoever asks may be in more of a hurry.
const (
	// signalTimeout and readTimeout are for what costs the guest a few system
	// calls; an emulated one that is busy still answers within a second.
	signalTimeout = 10 * time.Second
	readTimeout   = 5 * time.Second
	// networkTimeout is for some thousand routes.
	networkTimeout = 30 * time.Second
	// runtimeTimeout is for calls of the guest's runtime.
	runtimeTimeout = 2 * time.Minute
	// deleteTimeout is for the guest's part of a delete; whoever asks has some
	// more time (undoTimeout is the least), so that the host's part is done.
	deleteTimeout = 15 * time.Second
)

// maxErrorText bounds what is repeated of an error of the guest's, in bytes.
const maxErrorText = 2 << 10

// call asks the agent for something. A guest that does not answer in time is
// found out about.
func call[Req, Res any](ctx context.Context, r *guest, limit time.Duration, what string,
	f func(context.Context, *Req) (*Res, error), req *Req,
) (*Res, error) {
	if r.isDead() {
		return nil, r.ended()
	}
	if r.paused.Load() {
		return nil, errPaused(what)
	}
	own, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res, err := f(own, req)
	if err == nil {
		r.silence.heard()
		return res, nil
	}
	switch late := own.Err() != nil; {
	case r.paused.Load(): // nobody can answer
	case late && ctx.Err() == nil && r.silence.isMute(time.Now()):
		r.work.Go(func() {
			r.fail(fmt.Errorf("the agent answers to pings, and has answered no call for %v and more", muteTimeout))
		})
	case late && ctx.Err() == nil:
		r.doubt()
	case !late:
		r.silence.heard()
	}
	closed := errors.Is(err, ttrpc.ErrClosed)
	select {
	case <-r.session.Done():
		closed = true
	default:
	}
	if closed { // so is the guest, or is about to be
		select {
		case <-r.dead:
		case <-own.Done():
		}
	}
	if r.isDead() {
		return nil, r.ended()
	}
	return nil, guestError(what, err)
}

// silence is how long an agent has answered no call at all.
type silence struct {
	mu    sync.Mutex
	since time.Time // when the first call ran out of time that no answer to any has followed
	calls int       // that have since
}

// An agent that lets this many calls run out of time, and answers none in
// between, for so long is of no use, though its end of the session lives. One
// call that waits for a process that hangs is not that.
const (
	muteCalls   = 8
	muteTimeout = time.Minute
)

func (s *silence) heard() {
	s.mu.Lock()
	s.calls = 0
	s.mu.Unlock()
}

// isMute notes a call that has run out of time.
func (s *silence) isMute(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == 0 {
		s.since = now
	}
	s.calls++
	return s.calls >= muteCalls && now.Sub(s.since) >= muteTimeout
}

// settle calls something that makes something in the guest. If whoever asked
// gives up, the guest is asked to undo what it makes all the same.
func settle[Req, Res any](ctx context.Context, r *guest, limit time.Duration, what string,
	f func(context.Context, *Req) (*Res, error), req *Req, undo func(context.Context) error,
) error {
	answer := make(chan error) // whoever asked takes it, or has given up
	gaveUp := make(chan struct{})
	r.work.Go(func() {
		_, err := call(context.WithoutCancel(ctx), r, limit, what, f, req)
		select {
		case answer <- err:
		case <-gaveUp:
			if err == nil {
				undone, cancel := context.WithTimeout(context.Background(), undoTimeout)
				defer cancel()
				if err := undo(undone); ignoreNotFound(err) != nil && !r.isDead() {
					log.L.WithError(err).Warn("something that nobody waited for is left in the guest")
				}
			}
		}
	})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		close(gaveUp)
		return fmt.Errorf("%s in the guest: %w", what, context.Cause(ctx))
	}
}

// guestError is an error that came from the guest: its class, and as much of
// its text as a line of a log may have.
func guestError(what string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s in the guest: %w", what, err)
	}
	native := errgrpc.ToNative(err)
	var class error = errdefs.ErrUnknown
	for _, c := range []error{
		errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrInvalidArgument,
		errdefs.ErrFailedPrecondition, errdefs.ErrNotImplemented, errdefs.ErrUnavailable,
	} {
		if errors.Is(native, c) {
			class = c
		}
	}
	if errors.Is(native, context.DeadlineExceeded) {
		class = context.DeadlineExceeded
	}
	return fmt.Errorf("%s in the guest: %s: %w", what, plain(native.Error()), class)
}

// plain is a text of the guest's on one line, without what a terminal obeys.
func plain(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// doubt finds out whether the guest is deaf, and ends it if so: nobody can ask
// for anything in it any more, not even for its end.
func (r *guest) doubt() {
	if !r.suspect.TryLock() {
		return // somebody does
	}
	r.work.Go(func() {
		defer r.suspect.Unlock()
		for range pings {
			ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
			err := r.session.Ping(ctx)
			cancel()
			if err == nil || r.isDead() || r.paused.Load() { // paused: it has answered since
				return
			}
			log.L.WithError(err).Warn("the agent does not answer")
		}
		r.fail(fmt.Errorf("the agent has not answered for %v", pings*pingTimeout))
	})
}
