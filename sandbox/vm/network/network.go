// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

// Network is a pod's network, redirected to taps.
type Network struct {
	// Request is what the guest is to have.
	Request *agentapi.NetworkRequest
	// NICs are what its machine is to have, one for each interface of the
	// Request that has a MAC, in that order. They are the caller's to close.
	NICs []NIC
}

// NIC is one network interface of a machine.
type NIC struct {
	Tap *os.File
	MAC net.HardwareAddr
}

// Open redirects the network of a namespace, which was opened from path. note is
// told what will be there to remove before it is. A namespace without
// interfaces is a network without NICs, and note is not called. On an error
// nothing is left.
func Open(path string, ns *os.File, note func(Record) error) (*Network, error) {
	n, err := handOver(ns, func(r Record) error {
		r.Path = path
		return note(r)
	})
	if err != nil {
		return nil, fmt.Errorf("hand the pod's network %s to its VM: %w", path, err)
	}
	return n, nil
}

func handOver(ns *os.File, note func(Record) error) (n *Network, err error) {
	err = inside(ns, func() (err error) {
		conn, err := netlink.Dial()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		s, err := read(conn)
		if err != nil {
			return err
		}
		n = &Network{Request: s.result}
		if s.cards() == 0 {
			return nil
		}
		if err := s.sysctls(); err != nil {
			return fmt.Errorf("read the sysctls: %w", err)
		}
		var record Record
		if record.Namespace, err = conn.Namespace(); err != nil {
			return err
		}
		for _, l := range s.links {
			if l.api.Mac != nil {
				record.Interfaces = append(record.Interfaces, l.index)
			}
		}
		if err := note(record); err != nil {
			return err
		}
		return s.attach(n)
	})
	return n, err
}

// cards is the number of interfaces that a machine is to have.
func (s *scan) cards() (n int) {
	for _, l := range s.links {
		if l.api.Mac != nil {
			n++
		}
	}
	return n
}

// attach makes the taps and the redirects.
func (s *scan) attach(n *Network) (retErr error) {
	var done []uint32
	defer func() {
		if retErr == nil {
			return
		}
		for _, index := range done {
			retErr = errors.Join(retErr, restore(s.conn, index))
		}
		n.Close()
	}()
	for _, l := range s.links {
		if l.api.Mac == nil {
			continue
		}
		tap, name, err := newTap()
		if err != nil {
			return err
		}
		n.NICs = append(n.NICs, NIC{Tap: tap, MAC: l.api.Mac})
		index, err := tapIndex(s.conn, name)
		if err != nil {
			return err
		}
		// The tap's first, and before it is on: no frame of the guest's is for
		// the host's own protocols.
		if err := redirect(s.conn, index, l.index); err != nil {
			return fmt.Errorf("tap interface %s: %w", name, err)
		}
		if err := redirect(s.conn, l.index, index); err != nil {
			return fmt.Errorf("interface %s: %w", l.api.Name, err)
		}
		done = append(done, l.index)
		if err := raise(s.conn, index, l.api.Mtu); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the taps, which a machine that has them does not need any more.
func (n *Network) Close() {
	for _, nic := range n.NICs {
		_ = nic.Tap.Close()
	}
	n.NICs = nil
}

// isNamespace is true for a file of nsfs.
func isNamespace(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Type == unix.NSFS_MAGIC
}
