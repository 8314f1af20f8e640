// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"berth/sandbox/netlink"
)

const (
	tapDevice   = "/dev/net/tun"
	genModeNone = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
)

// newTap makes a tap interface in the namespace of the calling thread; the
// kernel numbers it. It goes with the last descriptor.
func newTap() (tap *os.File, name string, err error) {
	fd, err := unix.Open(tapDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", fmt.Errorf("make a tap interface: open %s: %w; a VM with a network needs the module tun", tapDevice, err)
	}
	req, err := unix.NewIfreq("berth%d")
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, "", fmt.Errorf("make a tap interface: %w", err)
	}
	return os.NewFile(uintptr(fd), "tap"), req.Name(), nil
}

// tapIndex gives the number of an interface.
func tapIndex(conn *netlink.Conn, name string) (index uint32, err error) {
	err = conn.Dump(netlink.New(unix.RTM_GETLINK, 0, unix.IfInfomsg{}), func(r netlink.Reply) error {
		var h unix.IfInfomsg
		attrs, err := r.Header(&h)
		if err == nil && attrs.String(unix.IFLA_IFNAME) == name {
			index = uint32(h.Index)
		}
		return err
	})
	if err != nil && !errors.Is(err, netlink.ErrChanged) || index == 0 {
		return 0, fmt.Errorf("find the tap interface %s: %w", name, errors.Join(err, unix.ENODEV))
	}
	return index, nil
}

// raise turns a tap on. The host must not talk on it: it has no IPv6 address of
// its own by which it would look for neighbours and routers.
func raise(conn *netlink.Conn, index, mtu uint32) error {
	m := netlink.New(unix.RTM_NEWLINK, 0, unix.IfInfomsg{Index: int32(index)})
	m.Nest(unix.IFLA_AF_SPEC, func() {
		m.Nest(unix.AF_INET6, func() { m.Add(unix.IFLA_INET6_ADDR_GEN_MODE, uint8(genModeNone)) })
	})
	// A host without IPv6 has nothing to turn off.
	if err := conn.Do(m); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("keep the tap interface quiet: %w", err)
	}
	m = netlink.New(unix.RTM_NEWLINK, 0, unix.IfInfomsg{
		Index: int32(index), Flags: unix.IFF_UP | unix.IFF_NOARP, Change: unix.IFF_UP | unix.IFF_NOARP,
	})
	m.Add(unix.IFLA_MTU, mtu)
	if err := conn.Do(m); err != nil {
		return fmt.Errorf("turn on the tap interface: %w", err)
	}
	return nil
}
