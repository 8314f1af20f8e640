// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// network is a new network namespace with tap interfaces in it, which lives as
// long as the descriptors.
func network(t *testing.T, names ...string) (namespace *os.File, taps []*os.File) {
	t.Helper()
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and with it its stay there
		made <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			var err error
			if namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
				return err
			}
			for _, name := range names {
				tap, err := openTap(name)
				if err != nil {
					return err
				}
				taps = append(taps, tap)
			}
			return nil
		}()
	}()
	err := <-made
	t.Cleanup(func() { closeAll(append(taps, namespace)...) })
	if err != nil {
		t.Skipf("no tap interface in a network namespace can be made here: %v", err)
	}
	return namespace, taps
}

func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tap"), nil
}

func TestNICs(t *testing.T) {
	r := newRig(t)
	c := r.config()
	namespace, taps := network(t, "tap0", "tap1")
	c.Network = namespace
	for i, text := range []string{"02:00:00:00:00:0A", "02:00:00:00:00:0b"} {
		mac, err := net.ParseMAC(text)
		if err != nil {
			t.Fatal(err)
		}
		c.NICs = append(c.NICs, NIC{Tap: taps[i], MAC: mac})
	}
	g := r.up(c)
	got := g.do("interfaces")
	for _, n := range c.NICs {
		if !strings.Contains(got, n.MAC.String()) {
			t.Errorf("the guest has no interface %s: %s", n.MAC, got)
		}
	}
	var want, is unix.Stat_t
	if err := unix.Fstat(int(namespace.Fd()), &want); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", g.Pid()), &is); err != nil || is.Ino != want.Ino {
		t.Errorf("QEMU is not in the pod's network namespace (%v)", err)
	}
	if fds := descriptorsOf(t, g.Pid()); slices.ContainsFunc(fds, func(fd string) bool { return strings.HasPrefix(fd, "net:") }) {
		t.Errorf("QEMU keeps a descriptor of the namespace: %v", fds)
	}
}
