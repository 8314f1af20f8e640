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
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// deaf is a machine whose agent greets, and does nothing more, until it is
// killed.
func deaf() *fakeMachine {
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
	return hangsUp(near, far)
}

// hangsUp is a machine that closes its end of the connection when it is killed.
func hangsUp(near, far net.Conn) *fakeMachine {
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
		m := deaf()
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
		m := deaf()
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

// mute is a machine whose agent answers pings, takes calls and answers none.
func mute() *fakeMachine {
	near, far := net.Pipe()
	go func() {
		session := mux.Guest(far, mux.Config{})
		defer func() { _ = session.Close() }()
		if session.Handshake(context.Background()) != nil {
			return
		}
		for {
			s, err := session.Accept(context.Background())
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, s) }()
		}
	}()
	return hangsUp(near, far)
}

// A guest that is alive and answers no call at all is killed, once that was not
// for a moment; how many calls there were at once does not count.
func TestMuteGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mute()
		g, err := connect(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		cg := g.newCgroup("c")
		began := time.Now()
		var calls sync.WaitGroup
		for range 2 * muteCalls {
			calls.Go(func() { _, _ = cg.Frozen() })
		}
		calls.Wait()
		synctest.Wait()
		if g.isDead() {
			t.Fatalf("it was killed after %v: %v", time.Since(began), m.Err())
		}
		for !g.isDead() {
			if _, err := cg.Frozen(); !errors.Is(err, context.DeadlineExceeded) && !errdefs.IsUnavailable(err) {
				t.Fatalf("a call: %v", err)
			}
			synctest.Wait()
		}
		if took := time.Since(began); took != readTimeout+muteTimeout || !strings.Contains(m.Err().Error(), "has answered no call for 1m0s") {
			t.Errorf("it was killed after %v: %v", took, m.Err())
		}
		g.close()
	})
}
