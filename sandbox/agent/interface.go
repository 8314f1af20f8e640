// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

// raise turns an interface on and gives it its addresses.
func (n *network) raise(i *agentapi.Interface) error {
	if err := setUpIPv6(i); err != nil {
		return err
	}
	m := netlink.New(unix.RTM_NEWLINK, 0, unix.IfInfomsg{Index: int32(n.index[i.Name]), Flags: unix.IFF_UP, Change: unix.IFF_UP})
	m.Add(unix.IFLA_MTU, i.Mtu)
	if err := n.conn.Do(m); err != nil {
		return fmt.Errorf("turn it on with an MTU of %d: %w", i.Mtu, err)
	}
	for _, a := range i.Addresses {
		if err := n.address(i, a); err != nil {
			return fmt.Errorf("address %v/%d: %w", net.IP(a.Local), a.Prefix, err)
		}
	}
	return nil
}

// setUpIPv6 says, before the interface is on, whether the kernel may look for
// addresses by itself. Static ones are the pod's already: the host has looked
// for duplicates.
func setUpIPv6(i *agentapi.Interface) error {
	if len(i.Mac) == 0 {
		return nil
	}
	set := map[string]string{"disable_ipv6": "1"}
	if !i.NoIpv6 {
		set = map[string]string{"accept_ra": "0", "addr_gen_mode": "1"} // 1: no link-local address but what it is given
		if i.Autoconf {
			set = map[string]string{"accept_ra": "2", "addr_gen_mode": "1"} // 2: even if a container has it forward
		}
	}
	for name, value := range set {
		if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", i.Name, name), []byte(value), 0); err != nil {
			return fmt.Errorf("set %s to %s: %w", name, value, err)
		}
	}
	return nil
}

// address adds an address. The routes are given beside it, all of them.
func (n *network) address(i *agentapi.Interface, a *agentapi.Address) error {
	m := netlink.New(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.IfAddrmsg{
		Family: family(a.Local), Prefixlen: uint8(a.Prefix), Scope: uint8(a.Scope), Index: n.index[i.Name],
	})
	m.Add(unix.IFA_LOCAL, a.Local)
	peer := a.Peer
	if len(peer) == 0 {
		peer = a.Local
	}
	m.Add(unix.IFA_ADDRESS, peer)
	if len(a.Broadcast) > 0 {
		m.Add(unix.IFA_BROADCAST, a.Broadcast)
	}
	m.Add(unix.IFA_FLAGS, uint32(unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE))
	return n.conn.Do(m)
}
