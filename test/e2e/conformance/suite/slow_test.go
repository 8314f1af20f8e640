// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"berth/test/fakeoci"
)

// A client leaves while its delete is with the runtime, and another has not read its
// answers, of which there are more than a socket holds. A shim that ends then waits for
// them to be taken: a closed connection would tell that client that there is no shim,
// not what it asked.
func TestEndAwaitsAnswers(t *testing.T) {
	h := newFakeHost(t)
	c := h.fake("c", "", verbs("delete", fakeoci.Verb{Reached: h.hostGate("reached"), Before: h.hostGate("held"), Times: 1}), "sleep")
	bringTo(c, "delete")
	shim, err := unix.PidfdOpen(c.shimPid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(shim)
	leaver, slow := c.redial(), c.dialSlow()
	done := make(chan struct{})
	go func() { defer close(done); _, _ = leaver.delete("") }()
	h.open("reached", os.O_RDONLY)
	const asked = 1000
	answers := make(chan error, asked)
	client := task.NewTTRPCTaskClient(slow.client)
	for range asked {
		go func() {
			_, err := client.State(h.ctx, &task.StateRequest{ID: "none"})
			answers <- err
		}()
	}
	h.await("the shim has read every request", func() bool { return slow.sent.Load() >= asked && slow.unread() == 0 })
	if err := leaver.shim.Leave(); err != nil {
		t.Errorf("leave: %v", err)
	}
	<-done
	h.release("held")
	h.await("the shim ends", func() bool {
		_, err := os.Stat(strings.TrimPrefix(c.shim.Address, "unix://"))
		return errors.Is(err, fs.ErrNotExist)
	})
	// One that does not wait is gone by now, or soon.
	if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(shim), Events: unix.POLLIN}}, 300); n > 0 {
		t.Error("the shim has ended, and owes answers")
	}
	close(slow.reads)
	wrong := map[string]int{}
	for range asked {
		if err := <-answers; !errdefs.IsNotFound(native(err)) {
			wrong[err.Error()]++
		}
	}
	if len(wrong) > 0 {
		t.Errorf("of %d answers these are wrong: %v", asked, wrong)
	}
	if !died(shim) {
		t.Fatal("the shim stays for nobody")
	}
	if _, err := c.Delete(c.bundle); err != nil {
		t.Errorf("delete command: %v", err)
	}
}

// A shim that is told to end now, with a container, says so to whoever waits for the
// container's exit, and to who told it; the container is for the delete command.
func TestEndNowAnswersAll(t *testing.T) {
	if *shimFlag != "" && strings.Contains(filepath.Base(*shimFlag), "runc") {
		t.Skip("this one stays as long as it has containers, whatever it is told")
	}
	h := newFakeHost(t)
	c := h.fake("c", "", fakeoci.Plan{}, "sleep")
	c.up()
	shim, err := unix.PidfdOpen(c.shimPid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(shim)
	waiter := c.dialSlow()
	close(waiter.reads)
	waited := make(chan error, 1)
	go func() {
		_, err := task.NewTTRPCTaskClient(waiter.client).Wait(h.ctx, &task.WaitRequest{ID: c.bundle.ID})
		waited <- err
	}()
	h.await("the shim has read the request", func() bool { return waiter.sent.Load() > 0 && waiter.unread() == 0 })
	if _, err := c.shim.Task.Shutdown(h.ctx, &task.ShutdownRequest{ID: c.bundle.ID, Now: true}); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-waited; !errdefs.IsUnavailable(native(err)) {
		t.Errorf("the wait ends with %v", err)
	}
	if !died(shim) {
		t.Fatal("the shim stays")
	}
	if d, err := c.Delete(c.bundle); err != nil || d.ExitStatus != 137 {
		t.Errorf("delete command: %v, %v", d, err)
	}
}

// slowConn is a connection whose owner does not read until told.
type slowConn struct {
	*net.UnixConn
	client *ttrpc.Client
	reads  chan struct{}
	sent   atomic.Int64 // messages
}

func (c *container) dialSlow() *slowConn {
	c.t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(c.shim.Address, "unix://"))
	if err != nil {
		c.t.Fatal(err)
	}
	s := &slowConn{UnixConn: conn.(*net.UnixConn), reads: make(chan struct{})}
	s.client = ttrpc.NewClient(s)
	c.t.Cleanup(func() { s.client.Close() })
	return s
}

func (s *slowConn) Read(p []byte) (int, error) {
	<-s.reads
	return s.UnixConn.Read(p)
}

func (s *slowConn) Write(p []byte) (int, error) {
	defer s.sent.Add(1)
	return s.UnixConn.Write(p)
}

// unread is how many bytes the other end has not read yet (SIOCOUTQ, unix(7)).
func (s *slowConn) unread() (n int) {
	raw, err := s.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	}
	if err != nil {
		return -1
	}
	return n
}

// await returns once something is so that nobody tells of.
func (h *host) await(what string, so func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	for again := time.NewTicker(time.Millisecond); !so(); {
		select {
		case <-again.C:
		case <-ctx.Done():
			h.t.Fatalf("waited in vain: %s", what)
		}
	}
}
