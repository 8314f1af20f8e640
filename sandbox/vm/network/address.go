// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

func (s *scan) address(r netlink.Reply) error {
	var h unix.IfAddrmsg
	attrs, err := r.Header(&h)
	if err != nil {
		return err
	}
	l := s.byID[h.Index]
	if l == nil {
		return nil
	}
	flags := uint32(h.Flags)
	if _, ok := attrs[unix.IFA_FLAGS]; ok {
		flags = attrs.Uint32(unix.IFA_FLAGS)
	}
	a := &agentapi.Address{Prefix: uint32(h.Prefixlen), Scope: uint32(h.Scope)}
	local, address := attrs[unix.IFA_LOCAL], attrs[unix.IFA_ADDRESS]
	if local == nil {
		local = address
	}
	a.Local = append(a.Local, local...)
	if string(address) != string(local) {
		a.Peer = append(a.Peer, address...)
	}
	a.Broadcast = append(a.Broadcast, attrs[unix.IFA_BROADCAST]...)
	switch ip := net.IP(a.Local); {
	case len(ip) != 4 && len(ip) != 16:
		return nil
	case len(ip) == 16 && flags&unix.IFA_F_PERMANENT == 0:
		l.api.Autoconf = true // a router's, who will give it to the guest
		l.learned = append(l.learned, prefixOf(a.Local, a.Prefix))
		return nil
	case l.api.Mac == nil && ip.IsLoopback():
		return nil // every kernel's
	}
	l.api.Addresses = append(l.api.Addresses, a)
	return nil
}

// prefixOf is an address of the kernel's, cut.
func prefixOf(address []byte, bits uint32) netip.Prefix {
	ip, _ := netip.AddrFromSlice(address)
	return netip.PrefixFrom(ip, int(bits)).Masked()
}

func (s *scan) neighbour(r netlink.Reply) error {
	var h unix.NdMsg
	attrs, err := r.Header(&h)
	if err != nil {
		return err
	}
	l := s.byID[uint32(h.Ifindex)]
	ip, mac := attrs[unix.NDA_DST], attrs[unix.NDA_LLADDR]
	if l == nil || l.api.Mac == nil || h.State&unix.NUD_PERMANENT == 0 || h.Flags&unix.NTF_PROXY != 0 ||
		len(ip) != 4 && len(ip) != 16 || len(mac) != 6 {
		return nil
	}
	return s.limit(len(s.result.Neighbours), "neighbours", func() {
		s.result.Neighbours = append(s.result.Neighbours, &agentapi.Neighbour{
			Interface: l.api.Name, Address: append([]byte(nil), ip...), Mac: append([]byte(nil), mac...),
		})
	})
}
