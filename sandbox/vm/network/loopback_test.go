// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// What is connected to the loopback interface within the namespace arrives, by
// both families and at any port, and nothing else does; when it is closed there is
// nobody again.
func TestLoopback(t *testing.T) {
	s := newSpace(t)
	all, err := OpenLoopback(s.ns) // before the interface is on
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		t.Skipf("no BPF: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	closeAll := func() {
		for _, l := range all {
			if err := l.Close(); err != nil && !closed {
				t.Error(err)
			}
		}
		closed = true
	}
	defer closeAll()
	s.run("ip link set lo up\nip addr add 10.0.0.2/32 dev lo\nip addr add fd00::2/128 dev lo nodad")
	dial := func(address string) (conn net.Conn, err error) {
		_ = inside(s.ns, func() error {
			conn, err = net.Dial("tcp", address)
			return nil
		})
		return conn, err
	}
	for i, address := range []string{"127.0.0.1:8080", "[::1]:443", "127.1.2.3:1"} {
		conn, err := dial(address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		defer conn.Close()
		taken, err := all[i%2].Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		if got := taken.LocalAddr().String(); got != address {
			t.Errorf("what goes to %s is taken at %s", address, got)
		}
	}
	for _, address := range []string{"10.0.0.2:8080", "[fd00::2]:443"} {
		conn, err := dial(address)
		for errors.Is(err, unix.ENETUNREACH) { // the kernel's work queue has not been to the address yet (addrconf_dad_work)
			conn, err = dial(address)
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v, %v", address, conn, err)
		}
	}
	closeAll()
	if conn, err := dial("127.0.0.1:8080"); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after the end: %v, %v", conn, err)
	}
}
