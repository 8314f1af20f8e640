// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"berth/test/e2e/conformance/daemon"
)

// deadline is for a whole test: far more than any needs, so that only a hang
// meets it.
const deadline = 40 * time.Second

// host is one test's daemon and its deadline.
type host struct {
	*daemon.Daemon
	t   *testing.T
	ctx context.Context

	sockets bool // a socket that is left fails the test, see TestSocketRemoved
}

// newHost makes a daemon over the real runtime. The test fails if something is
// left when it ends.
func newHost(t *testing.T) *host { return newHostWith(t, *runtimeFlag) }

func newHostWith(t *testing.T, runtime string) *host {
	t.Helper()
	if *shimFlag == "" {
		t.Skip("no -shim given: run by the conformance command")
	}
	dir, err := os.MkdirTemp("", "bc")
	if err != nil {
		t.Fatal(err)
	}
	d, err := daemon.New(daemon.Config{Shim: *shimFlag, Runtime: runtime, Payload: *payloadFlag, Dir: dir, Name: *nameFlag + "-" + token(t), Guest: *guestFlag})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), slower(deadline))
	h := &host{Daemon: d, t: t, ctx: ctx}
	t.Cleanup(func() {
		defer cancel()
		if left := h.settle(); !left.Empty() {
			t.Errorf("left behind:\n%s", left)
		}
		if err := d.Close(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return h
}

// extend gives a test that waits on purpose the time for it.
func (h *host) extend(t *testing.T, by time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), slower(deadline)+by)
	t.Cleanup(cancel)
	h.ctx = ctx
}

// settle looks for leftovers until there are none; a shim's exit follows its
// answer to Shutdown, so the first look may be too early. After a failure one
// look is enough.
func (h *host) settle() daemon.Leftovers {
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	if h.t.Failed() {
		patience.Reset(0)
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		left, err := h.Leftovers()
		if err != nil {
			h.t.Errorf("look for leftovers: %v", err)
		}
		if !h.sockets {
			left.Sockets = nil // every other test of the control would show this one fault
		}
		if left.Empty() {
			return left
		}
		select {
		case <-again.C:
		case <-patience.C:
			return left
		}
	}
}

func token(t *testing.T) string {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[:])
}

// gate makes a FIFO and returns the path that containers see.
func (h *host) gate(name string) string {
	h.t.Helper()
	if _, err := h.Gate(name); err != nil {
		h.t.Fatal(err)
	}
	return "/share/" + name
}

// open waits until the other end of a gate is open: flag is os.O_WRONLY to let
// a waiting program go, os.O_RDONLY to learn that one has come so far.
func (h *host) open(name string, flag int) {
	h.t.Helper()
	if err := h.meet(name, flag); err != nil {
		h.t.Fatalf("gate %s: %v", name, err)
	}
}

// meet is open for a goroutine that is not the test's own.
func (h *host) meet(name string, flag int) error {
	if h.Guest != "" {
		return h.meetGuest(name, flag)
	}
	done := make(chan error, 1)
	path := h.Dir + "/share/" + name
	go func() {
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			done <- err
			return
		}
		if flag == os.O_WRONLY {
			_, err = f.Write([]byte{'.'})
		} else {
			_, err = io.ReadAll(f)
		}
		done <- errors.Join(err, f.Close())
	}()
	select {
	case err := <-done:
		return err
	case <-h.ctx.Done():
		// Both ends at once end the goroutine above.
		if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			if flag == os.O_WRONLY {
				<-done
			}
			f.Close()
		}
		return h.ctx.Err()
	}
}

// release lets a program go that waits at a gate, if there is one: the call that
// brought it there may have been given up.
func (h *host) release(name string) {
	h.t.Helper()
	f, err := os.OpenFile(h.Dir+"/share/"+name, os.O_RDWR, 0) // does not wait for the other end
	if err == nil {
		_, err = f.Write([]byte{'.'})
	}
	if err != nil {
		h.t.Fatalf("release gate %s: %v", name, err)
	}
	h.t.Cleanup(func() { f.Close() })
}

func ids(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s%02d", prefix, i)
	}
	return all
}
