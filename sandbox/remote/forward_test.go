// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"berth/process"
)

// forwarding is a machine to whose loopback interface somebody connects at another
// address of this host's: the port is that which is meant.
type forwarding struct {
	*fakeMachine
	at net.Listener
}

func (m forwarding) Loopback() []net.Listener { return []net.Listener{m.at} }

// serveReversed answers each connection with what it was sent, in reverse, once
// that has ended.
func serveReversed(l net.Listener) {
	var work sync.WaitGroup
	defer work.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			data, _ := io.ReadAll(conn)
			slices.Reverse(data)
			_, _ = conn.Write(data)
			_ = conn.Close()
		})
	}
}

// Connections reach what listens in the guest, with the end of each direction; who
// connects to nothing is reset; and none outlives the guest.
func TestForward(t *testing.T) {
	there, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); serveReversed(there) }()
	port := there.Addr().(*net.TCPAddr).Port
	meant, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	sup := process.NewSupervisor()
	defer sup.Close()
	m := forwarding{startAgent(t, sup, "/nonexistent", t.TempDir(), t.TempDir()), meant}
	g, err := connect(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	dial := func() *net.TCPConn {
		t.Helper()
		conn, err := net.Dial("tcp4", meant.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn.(*net.TCPConn)
	}
	for range 3 {
		conn := dial()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); string(got) != "olleh" {
			t.Errorf("%q, %v", got, err)
		}
	}
	left := dial()
	if _, err := left.Write([]byte("never answered")); err != nil {
		t.Fatal(err)
	}
	awaiting := dial() // taken after the one before
	_ = awaiting.CloseWrite()
	if _, err := io.ReadAll(awaiting); err != nil {
		t.Error(err)
	}
	_ = there.Close()
	if got, err := io.ReadAll(dial()); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("who connects to nothing reads %q, %v", got, err)
	}
	g.fail(errors.New("the test is over"))
	if got, err := io.ReadAll(left); len(got) > 0 {
		t.Errorf("after the guest: %q, %v", got, err)
	}
	g.close()
	if conn, err := net.Dial("tcp4", meant.Addr().String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after the guest somebody listens: %v, %v", conn, err)
	}
	<-served
}
