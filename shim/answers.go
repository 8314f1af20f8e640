// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/log"

	"berth/sandbox/turnstile"
)

// answerTimeout bounds the wait for callers who do not read their answers. It is what
// containerd gives the clean-up of a shim.
const answerTimeout = 5 * time.Second

// awaitAnswers returns once a server that was told to end owes nobody an answer.
func (s *server) awaitAnswers() {
	ctx, over := s.untilOver()
	defer over()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	s.answerIfStopping() // nobody may be there
	select {
	case <-s.answered:
	case <-ctx.Done():
		log.L.Warn("the shim ends, and somebody does not read its answer")
	}
}

// answeringConn tells when an answer was written after the shim was told to end,
// which it must not before its callers know.
type answeringConn struct {
	*turnstile.Conn
	s    *server
	left sync.Once
}

func (c *answeringConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.s.answerIfStopping()
	return n, err
}

// Close ends the wait for answers to a caller that has gone.
func (c *answeringConn) Close() error {
	err := c.Conn.Close()
	c.left.Do(func() {
		c.s.mu.Lock()
		delete(c.s.conns, c)
		c.s.mu.Unlock()
		c.s.visitors.Add(-1)
		notify(c.s.visits)
	})
	c.s.answerIfStopping()
	return err
}

// answerIfStopping ends the wait once no answer is owed. Whoever waits for an exit that
// a shim that ends will not see is answered, too: the call's context has ended.
func (s *server) answerIfStopping() {
	if s.serving.Err() == nil {
		return
	}
	s.mu.Lock()
	owed := 0
	for c := range s.conns {
		owed += c.Owed()
	}
	s.mu.Unlock()
	if owed == 0 {
		s.answer.Do(func() { close(s.answered) })
	}
}
