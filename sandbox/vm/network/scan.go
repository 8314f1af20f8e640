// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

// link is an interface of the pod's.
type link struct {
	index uint32
	api   *agentapi.Interface
	// learned are the prefixes of the addresses that a router gave it.
	learned []netip.Prefix
}

// scan is a namespace as it is read.
type scan struct {
	conn   *netlink.Conn
	links  []*link // the loopback interface is one, with no MAC
	byID   map[uint32]*link
	result *agentapi.NetworkRequest
	gated  map[*agentapi.Route]bool // routes by a gateway
}

// scans bounds how often a namespace is read that changes meanwhile. The kernel
// says so, and that the reader is to begin again.
const scans = 10

// read lists what the namespace of the calling thread has.
func read(conn *netlink.Conn) (*scan, error) {
	for range scans {
		s := &scan{conn: conn, byID: make(map[uint32]*link), result: new(agentapi.NetworkRequest), gated: make(map[*agentapi.Route]bool)}
		err := s.all()
		if errors.Is(err, netlink.ErrChanged) {
			continue
		}
		return s, err
	}
	return nil, fmt.Errorf("the pod's network has changed each of %d times while it was read: %w", scans, errdefs.ErrUnavailable)
}

func (s *scan) all() error {
	for _, part := range []struct {
		what string
		kind uint16
		ask  any
		take func(netlink.Reply) error
	}{
		{"interfaces", unix.RTM_GETLINK, unix.IfInfomsg{}, s.link},
		{"addresses", unix.RTM_GETADDR, unix.IfAddrmsg{}, s.address},
		{"routes", unix.RTM_GETROUTE, unix.RtMsg{}, s.route},
		{"neighbours", unix.RTM_GETNEIGH, unix.NdMsg{}, s.neighbour},
		{"rules", unix.RTM_GETRULE, unix.RtMsg{}, s.rule}, // a fib_rule_hdr is laid out like a rtmsg
	} {
		if err := s.conn.Dump(netlink.New(part.kind, 0, part.ask), part.take); err != nil {
			return fmt.Errorf("read the %s of the pod's network: %w", part.what, err)
		}
	}
	s.order()
	for _, l := range s.links {
		s.result.Interfaces = append(s.result.Interfaces, l.api)
	}
	return nil
}

func (s *scan) link(r netlink.Reply) error {
	var h unix.IfInfomsg
	attrs, err := r.Header(&h)
	if err != nil {
		return err
	}
	// What is down carries nothing: the tunnels that some modules put into
	// every namespace.
	if h.Flags&unix.IFF_UP == 0 {
		return nil
	}
	l := &link{index: uint32(h.Index), api: &agentapi.Interface{Name: attrs.String(unix.IFLA_IFNAME), Mtu: attrs.Uint32(unix.IFLA_MTU)}}
	if h.Flags&unix.IFF_LOOPBACK == 0 {
		l.api.Mac = append([]byte(nil), attrs[unix.IFLA_ADDRESS]...)
		if err := s.judge(l, h.Type); err != nil {
			return err
		}
	}
	off, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", l.api.Name, "disable_ipv6"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l.api.NoIpv6 = err != nil || len(off) > 0 && off[0] == '1'
	s.links, s.byID[l.index] = append(s.links, l), l
	return nil
}

// judge refuses what cannot be a machine's.
func (s *scan) judge(l *link, kind uint16) error {
	if kind != unix.ARPHRD_ETHER || len(l.api.Mac) != 6 {
		return fmt.Errorf("interface %s of the pod is of type %d, and a VM's are Ethernet (1): use a network plugin that gives the pod a veth, macvlan or the like: %w",
			l.api.Name, kind, errdefs.ErrInvalidArgument)
	}
	for _, other := range s.links {
		if string(other.api.Mac) == string(l.api.Mac) {
			return fmt.Errorf("interfaces %s and %s of the pod have the same address %s, and a guest finds its own by that: %w",
				other.api.Name, l.api.Name, net.HardwareAddr(l.api.Mac), errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// maxEntries bounds each list, so that all fit a message of 4 MiB to the agent.
const maxEntries = 4096

func (s *scan) limit(n int, what string, add func()) error {
	if n >= maxEntries {
		return fmt.Errorf("the pod's network has more than %d %s, which is what a VM is given: %w", maxEntries, what, errdefs.ErrInvalidArgument)
	}
	add()
	return nil
}
