// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tap is a tap interface in a network namespace of its own, which lives as
// long as the descriptor.
func tap(t *testing.T, name string) *os.File {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and is in no other's namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{nil, err}
			return
		}
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			made <- result{nil, err}
			return
		}
		f := os.NewFile(uintptr(fd), "tap")
		req, err := unix.NewIfreq(name)
		if err == nil {
			req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		made <- result{f, err}
	}()
	got := <-made
	if got.err != nil {
		t.Skipf("no tap interface can be made here: %v", got.err)
	}
	t.Cleanup(func() { _ = got.f.Close() })
	return got.f
}

func TestNICs(t *testing.T) {
	r := newRig(t)
	c := r.config()
	for _, n := range []struct{ name, mac string }{{"tap0", "02:00:00:00:00:0A"}, {"tap1", "02:00:00:00:00:0b"}} {
		mac, err := net.ParseMAC(n.mac)
		if err != nil {
			t.Fatal(err)
		}
		c.NICs = append(c.NICs, NIC{Tap: tap(t, n.name), MAC: mac})
	}
	g := r.up(c)
	got := g.do("interfaces")
	for _, n := range c.NICs {
		if !strings.Contains(got, n.MAC.String()) {
			t.Errorf("the guest has no interface %s: %s", n.MAC, got)
		}
	}
}
