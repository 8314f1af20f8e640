// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

// spare is a NIC that stands for no interface yet. It is in a network namespace
// of its own, so that containers do not see it.
type spare struct {
	home, away *os.File // network namespaces: the guest's, and the NIC's
}

// hideSpare puts a NIC away.
func hideSpare(mac []byte) (*spare, error) {
	s := new(spare)
	var err error
	if s.home, err = os.Open(ownNetwork); err != nil {
		return nil, err
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and with it its stay there
		made <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			s.away, err = os.Open(ownNetwork)
			return err
		}()
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make a network namespace for the spare NIC: %w", err)
	}
	return s, move(mac, nil, s.away)
}

const ownNetwork = "/proc/thread-self/ns/net"

// take has the NIC be the one interface of the request that has an address.
func (s *spare) take(r *agentapi.NetworkRequest) error {
	for _, i := range r.Interfaces {
		if len(i.Mac) > 0 {
			return s.inside(func() error { return move(r.Spare, i.Mac, s.home) })
		}
	}
	return nil
}

// inside calls f on a thread that is where the NIC is.
func (s *spare) inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // as above
		err := unix.Setns(int(s.away.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// move puts the NIC with an address, from the namespace of the calling thread,
// into another, with a new address unless that is nil.
func move(mac, as []byte, to *os.File) (err error) {
	conn, err := netlink.Dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	n := &network{conn: conn, index: make(map[string]uint32)}
	const name = "spare"
	if err := n.find([]*agentapi.Interface{{Name: name, Mac: mac}}); err != nil {
		return err
	}
	m := netlink.New(unix.RTM_NEWLINK, 0, unix.IfInfomsg{Index: int32(n.index[name])})
	if as != nil {
		m.Add(unix.IFLA_ADDRESS, as)
		if err := conn.Do(m); err != nil {
			return fmt.Errorf("give the spare NIC the address %v: %w", net.HardwareAddr(as), err)
		}
		m = netlink.New(unix.RTM_NEWLINK, 0, unix.IfInfomsg{Index: int32(n.index[name])})
	}
	m.Add(unix.IFLA_NET_NS_FD, uint32(to.Fd()))
	if err := conn.Do(m); err != nil {
		return fmt.Errorf("move the spare NIC: %w", err)
	}
	return nil
}
