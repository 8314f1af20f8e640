// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agentapi"
)

// deaf is a machine whose agent greets, and does nothing more, until it is
// killed.
func deaf(t *testing.T) *fakeMachine {
	near, far := net.Pipe()
	greeting := make([]byte, 29) // PROTOCOL.md, Greeting
	go func() {
		if _, err := io.ReadFull(far, greeting); err == nil {
			greeting[7] = 'G'
			binary.BigEndian.PutUint32(greeting[25:], crc32.ChecksumIEEE(greeting[:25]))
			_, _ = far.Write(greeting)
			_, _ = io.Copy(io.Discard, far)
		}
	}()
	var end func(process.Exit)
	proc, end := process.Elsewhere(1, func(unix.Signal) error {
		_ = far.Close()
		end(process.Exit{Status: 137, Known: true})
		return nil
	})
	return newFakeMachine(near, proc)
}

// A guest that lets a call run out of time, and then does not even answer to a
// ping, is killed, and everything in it has exited.
func TestDeafGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := deaf(t)
		g, err := connect(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		_, p, err := g.newProcess("c")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		cg := g.newCgroup("c")
		if _, err := cg.Frozen(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call: %v", err)
		}
		<-p.Done()
		if took := time.Since(began); took != readTimeout+pings*pingTimeout {
			t.Errorf("it was killed after %v", took)
		}
		if p.Exit().Status != 137 || !strings.Contains(m.Err().Error(), "has not answered for 15s") {
			t.Errorf("exit %+v, because of: %v", p.Exit(), m.Err())
		}
		if _, err := cg.Frozen(); !errdefs.IsUnavailable(err) {
			t.Errorf("a call afterwards: %v", err)
		}
		g.close()
	})
}

// Whoever gives up waiting says nothing about the guest.
func TestImpatientCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := deaf(t)
		g, err := connect(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = call(ctx, g, readTimeout, "wait", g.agent.Kill, &agentapi.ContainerRequest{})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call: %v", err)
		}
		time.Sleep(time.Hour)
		if g.isDead() {
			t.Errorf("the guest was killed because of it: %v", m.Err())
		}
		g.fail(errors.New("the test is over"))
		g.close()
	})
}
