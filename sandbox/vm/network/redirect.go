// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/netlink"
)

// Numbers of linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h.
const (
	handleIngress = 0xffff0000
	parentIngress = 0xfffffff1 // TC_H_INGRESS
	filterParent  = 0xfffffff2 // of an ingress qdisc, and of clsact's half
	filterPref    = 1
	ethPAll       = 0x0003

	attrKind    = 1 // TCA_KIND
	attrOptions = 2 // TCA_OPTIONS
	u32Sel      = 5 // TCA_U32_SEL
	u32Act      = 7 // TCA_U32_ACT
	actKind     = 1 // TCA_ACT_KIND
	actOptions  = 2 // TCA_ACT_OPTIONS
	mirredParms = 2 // TCA_MIRRED_PARMS

	u32Terminal    = 1 // TC_U32_TERMINAL
	actStolen      = 4 // TC_ACT_STOLEN
	egressRedirect = 1 // TCA_EGRESS_REDIR
)

// tcmsg, selector (tc_u32_sel with its one key) and mirred (tc_mirred) are
// structs of those headers.
type (
	tcmsg struct {
		Family               byte
		_                    [3]byte
		Index                int32
		Handle, Parent, Info uint32
	}
	selector struct {
		Flags, OffShift, Keys byte
		_                     byte
		OffMask, Off          uint16
		OffOff, HashOff       int16
		HashMask              uint32
		Mask, Value           uint32 // of the key, that every frame has
		At, AtMask            int32
	}
	mirred struct {
		Index, Capabilities uint32
		Action              int32
		References, Bound   int32
		Redirect            int32
		Interface           uint32
	}
)

// redirect sends all that arrives at one interface out by another.
func redirect(conn *netlink.Conn, from, to uint32) error {
	// EXCL: nothing of anybody's is replaced.
	m := netlink.New(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		tcmsg{Index: int32(from), Handle: handleIngress, Parent: parentIngress})
	m.Add(attrKind, "ingress")
	if err := conn.Do(m); errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("it has an ingress qdisc that somebody else has put there, which a VM needs itself; remove it, or use a network plugin that filters on its own side: %w",
			errdefs.ErrFailedPrecondition)
	} else if err != nil {
		return fmt.Errorf("add an ingress qdisc: %w", err)
	}
	// Info is the filter's preference, and the protocol in network byte order.
	m = netlink.New(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		tcmsg{Index: int32(from), Parent: filterParent, Info: filterPref<<16 | ethPAll<<8})
	m.Add(attrKind, "u32")
	m.Nest(attrOptions, func() {
		m.Add(u32Sel, selector{Flags: u32Terminal, Keys: 1})
		m.Nest(u32Act, func() {
			m.Nest(1, func() { // the first action
				m.Add(actKind, "mirred")
				m.Nest(actOptions, func() {
					m.Add(mirredParms, mirred{Action: actStolen, Redirect: egressRedirect, Interface: to})
				})
			})
		})
	})
	if err := conn.Do(m); err != nil {
		return fmt.Errorf("add a filter that redirects: %w", errors.Join(err, restore(conn, from)))
	}
	return nil
}

// busyTries bounds how often the removal of a qdisc is asked for: far more than
// there are requests of others on the way at a time. Somebody who never pauses
// between them can still keep the kernel from it; that is an error then.
const busyTries = 1000

// restore removes what redirect has added. With nothing to remove, or no such
// interface, it is done.
//
// The kernel does not remove an ingress qdisc, and says EBUSY, as long as
// somebody's request for a filter of it is under way: that has a reference, also
// while it waits for the lock that the removal holds (qdisc_graft in
// net/sched/sch_api.c, since 6.4). There is nothing to be told by when it has
// ended, but to ask again lets it have the lock. Adding cannot be busy: there is
// no qdisc then, or it is EEXIST.
func restore(conn *netlink.Conn, index uint32) (err error) {
	for range busyTries {
		m := netlink.New(unix.RTM_DELQDISC, 0, tcmsg{Index: int32(index), Handle: handleIngress, Parent: parentIngress})
		if err = conn.Do(m); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("remove the ingress qdisc: %w", err)
}
