// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

// route adds a route. The kernel has one of its own to ::1 already.
func (n *network) route(r *agentapi.Route) error {
	h := unix.RtMsg{
		Family: family(r.Destination), Dst_len: uint8(r.Prefix), Tos: uint8(r.Tos), Table: unix.RT_TABLE_UNSPEC,
		Protocol: uint8(r.Protocol), Scope: uint8(r.Scope), Type: uint8(r.Type),
	}
	flags := uint16(unix.NLM_F_CREATE)
	if h.Family == unix.AF_INET { // of several to one place the order counts; IPv6 would make one of them
		flags |= unix.NLM_F_APPEND
	}
	if len(r.Hops) == 1 && r.Hops[0].Onlink {
		h.Flags = unix.RTNH_F_ONLINK
	}
	m := netlink.New(unix.RTM_NEWROUTE, flags, h)
	m.Add(unix.RTA_TABLE, r.Table)
	if r.Prefix > 0 {
		m.Add(unix.RTA_DST, r.Destination)
	}
	if r.Priority > 0 {
		m.Add(unix.RTA_PRIORITY, r.Priority)
	}
	if len(r.Source) > 0 {
		m.Add(unix.RTA_PREFSRC, r.Source)
	}
	if len(r.Metrics) > 0 {
		m.Nest(unix.RTA_METRICS, func() {
			for kind, value := range r.Metrics {
				m.Add(uint16(kind), value)
			}
		})
	}
	n.hops(m, h.Family, r.Hops)
	if err := n.conn.Do(m); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}

// hops says where the route leads.
func (n *network) hops(m *netlink.Message, of uint8, hops []*agentapi.Hop) {
	switch len(hops) {
	case 0:
	case 1:
		m.Add(unix.RTA_OIF, n.index[hops[0].Interface])
		gateway(m, of, hops[0].Gateway)
	default:
		var all []byte
		for _, hop := range hops {
			attrs := netlink.New(0, 0, []byte{})
			gateway(attrs, of, hop.Gateway)
			next := unix.RtNexthop{
				Len: uint16(unix.SizeofRtNexthop + len(attrs.Body())), Hops: uint8(hop.Weight), Ifindex: int32(n.index[hop.Interface]),
			}
			if hop.Onlink {
				next.Flags = unix.RTNH_F_ONLINK
			}
			all = slices.Concat(all, netlink.Struct(next), attrs.Body())
		}
		m.Add(unix.RTA_MULTIPATH, all)
	}
}

// gateway adds the address of a hop's, which may be of the other family.
func gateway(m *netlink.Message, of uint8, address []byte) {
	switch {
	case len(address) == 0:
	case family(address) == of:
		m.Add(unix.RTA_GATEWAY, address)
	default:
		m.Add(unix.RTA_VIA, append(netlink.Struct(uint16(family(address))), address...))
	}
}
