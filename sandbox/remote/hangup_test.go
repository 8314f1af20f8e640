// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/mux"
)

// What ends hangs up first: why it does is the machine's to say, if it ends, and
// an agent that hangs up alone is the end of the machine.
func TestHangUp(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration // that the machine ends by itself; 0 is never
		why   string
		took  time.Duration
	}{
		"the machine ends":     {100 * time.Millisecond, "the machine has ended with status 9", 100 * time.Millisecond},
		"the agent alone ends": {0, "the connection to the agent has ended", hangUpGrace},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				hangUp := make(chan struct{})
				go func() {
					session := mux.Guest(far, mux.Config{})
					if session.Handshake(context.Background()) != nil {
						return
					}
					<-hangUp
					_ = session.Close()
				}()
				var end func(process.Exit)
				proc, end := process.Elsewhere(1, func(unix.Signal) error {
					end(process.Exit{Status: 137, Known: true})
					return nil
				})
				m := newFakeMachine(struct{ io.ReadWriteCloser }{near}, proc)
				g, err := connect(t.Context(), m)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if c.after > 0 {
					time.AfterFunc(c.after, func() { end(process.Exit{Status: 9, Known: true}) })
				}
				close(hangUp)
				<-g.dead
				if took := time.Since(began); took != c.took || g.why == nil || !strings.Contains(g.why.Error(), c.why) {
					t.Errorf("after %v: %v, want %q after %v", took, g.why, c.why, c.took)
				}
				g.close()
			})
		})
	}
}
