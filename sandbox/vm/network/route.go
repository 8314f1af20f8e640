// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

func (s *scan) route(r netlink.Reply) error {
	var h unix.RtMsg
	attrs, err := r.Header(&h)
	if err != nil {
		return err
	}
	var size int
	switch h.Family {
	case unix.AF_INET:
		size = 4
	case unix.AF_INET6:
		size = 16
	}
	table := uint32(h.Table)
	if _, ok := attrs[unix.RTA_TABLE]; ok {
		table = attrs.Uint32(unix.RTA_TABLE)
	}
	if size == 0 || h.Flags&unix.RTM_F_CLONED != 0 || table == unix.RT_TABLE_LOCAL { // that is made of the addresses
		return nil
	}
	route := &agentapi.Route{
		Destination: make([]byte, size), Prefix: uint32(h.Dst_len), Table: table, Type: uint32(h.Type),
		Scope: uint32(h.Scope), Protocol: uint32(h.Protocol), Tos: uint32(h.Tos), Priority: attrs.Uint32(unix.RTA_PRIORITY),
	}
	copy(route.Destination, attrs[unix.RTA_DST])
	route.Source = append(route.Source, attrs[unix.RTA_PREFSRC]...)
	if err := metrics(route, attrs[unix.RTA_METRICS]); err != nil {
		return err
	}
	carried, err := s.hops(route, attrs, h)
	if err != nil || !carried {
		return err
	}
	return s.limit(len(s.result.Routes), "routes", func() { s.result.Routes = append(s.result.Routes, route) })
}

// hops finds where a route leads. A route by an interface that is not handed
// over is left out, as is one that the guest learns from its router.
func (s *scan) hops(route *agentapi.Route, attrs netlink.Attributes, h unix.RtMsg) (carried bool, err error) {
	switch route.Type {
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW:
		return true, nil // IPv6 says lo
	}
	all := [][]byte{nil}
	if many := attrs[unix.RTA_MULTIPATH]; many != nil {
		if all, err = split(many); err != nil {
			return false, err
		}
	}
	for _, raw := range all {
		index, flags, weight, of := attrs.Uint32(unix.RTA_OIF), h.Flags, uint32(0), attrs
		if raw != nil {
			index, flags, weight = binary.NativeEndian.Uint32(raw[4:]), uint32(raw[2]), uint32(raw[3])
			if of, err = netlink.Parse(raw[unix.SizeofRtNexthop:]); err != nil {
				return false, err
			}
		}
		l := s.byID[index]
		if l == nil || l.learns(route) {
			return false, nil
		}
		if of[unix.RTA_ENCAP] != nil {
			return false, fmt.Errorf("a route of the pod's by interface %s encapsulates, and a VM is given plain ones: %w", l.api.Name, errdefs.ErrInvalidArgument)
		}
		hop := &agentapi.Hop{Interface: l.api.Name, Onlink: flags&unix.RTNH_F_ONLINK != 0, Weight: weight}
		hop.Gateway = append(hop.Gateway, of[unix.RTA_GATEWAY]...)
		if via := of[unix.RTA_VIA]; len(via) > 2 { // a gateway of the other family, after the number of that
			hop.Gateway = append([]byte(nil), via[2:]...)
		}
		s.gated[route] = s.gated[route] || len(hop.Gateway) > 0
		route.Hops = append(route.Hops, hop)
	}
	return true, nil
}

// learns is true for a route that the guest will have from its router: that
// which the router announces, and that to a prefix of its.
func (l *link) learns(r *agentapi.Route) bool {
	return r.Protocol == unix.RTPROT_RA && l.api.Autoconf ||
		r.Protocol == unix.RTPROT_KERNEL && slices.Contains(l.learned, prefixOf(r.Destination, r.Prefix))
}

// split cuts the next hops of a route, each a struct rtnexthop and attributes.
func split(b []byte) (all [][]byte, err error) {
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return nil, fmt.Errorf("a next hop says that it has %d bytes of %d", n, len(b))
		}
		all = append(all, b[:n])
		b = b[min((n+3)&^3, len(b)):]
	}
	return all, nil
}

// metrics reads a route's, which are numbers but for the name of a congestion
// control, that the guest may not have.
func metrics(route *agentapi.Route, b []byte) error {
	all, err := netlink.Parse(b)
	if err != nil {
		return err
	}
	for kind := range all {
		if kind == unix.RTAX_CC_ALGO {
			continue
		}
		if route.Metrics == nil {
			route.Metrics = make(map[uint32]uint32)
		}
		route.Metrics[uint32(kind)] = all.Uint32(kind)
	}
	return nil
}

// order has those routes first by which the gateways of others are reached: the
// ones without a gateway, and then those of the narrower scope. More it cannot
// be, because neither IPv4 (fib_check_nh) nor IPv6 (ip6_route_check_nh) looks
// for a gateway behind another.
func (s *scan) order() {
	slices.SortStableFunc(s.result.Routes, func(a, b *agentapi.Route) int {
		if s.gated[a] != s.gated[b] {
			if s.gated[b] {
				return -1
			}
			return 1
		}
		return int(b.Scope) - int(a.Scope) // scopes are narrower the larger their number is
	})
}

func (s *scan) rule(r netlink.Reply) error {
	var h unix.RtMsg
	attrs, err := r.Header(&h)
	if err != nil {
		return err
	}
	protocol := attrs[unix.FRA_PROTOCOL]
	if h.Family != unix.AF_INET && h.Family != unix.AF_INET6 || len(protocol) == 1 && protocol[0] == unix.RTPROT_KERNEL {
		return nil // every namespace has the kernel's
	}
	return s.limit(len(s.result.Rules), "rules", func() {
		s.result.Rules = append(s.result.Rules, &agentapi.Rule{Message: append([]byte(nil), r.Body()...)})
	})
}
