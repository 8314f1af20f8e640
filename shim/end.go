// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"berth/sandbox"
)

// endTimeout bounds the end of a shim, from when its socket goes to when it lets go of
// the journal: whatever has to be waited for shares it. The next shim of the group may
// begin as soon as the socket has gone, and must not give up the journal before. It is
// enough for a containerd that is restarted, which is back within seconds, to take the
// last events.
const endTimeout = journalPatience - 2*time.Second

// errEnding is what callers are told who wait for what a shim that ends will not see.
var errEnding = fmt.Errorf("the shim was told to end: %w", errdefs.ErrUnavailable)

// end ends the server if it may; see closeSocket. Calls take turns, and those
// that come after the end leave the socket alone: the process may exit by then at
// any time, and would leave the lock's file.
func (s *server) end(socket string, may func() bool) bool {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.serving.Err() != nil {
		return true
	}
	ends, err := closeSocket(socket, func() bool {
		s.until = time.Now().Add(endTimeout) // from before it goes
		return may()
	})
	if err != nil {
		log.L.WithError(err).Warn("the shim's socket is left behind")
	}
	if ends {
		s.stop(errEnding)
	}
	return ends
}

// stopNow ends the server, but in no call's midst of end.
func (s *server) stopNow() {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.serving.Err() == nil {
		s.until = time.Now().Add(endTimeout)
		s.stop(errEnding)
	}
}

// close lets go of all that a server had that has ended: it delivers the events that
// it can, and the rest stays in the journal.
func (s *server) close(pod *sandbox.Pod, events *Publisher) error {
	s.stopNow() // if nothing has ended it
	ctx, cancel := s.untilOver()
	defer cancel()
	return errors.Join(pod.Close(ctx), events.Close(ctx))
}

// untilOver is for what a server that was told to end waits for.
func (s *server) untilOver() (context.Context, context.CancelFunc) {
	return context.WithDeadline(context.WithoutCancel(s.serving), s.until)
}
