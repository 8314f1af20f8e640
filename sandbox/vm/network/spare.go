// SPDX-License-Identifier: Apache-2.0

package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

// Spare is a NIC of a machine whose namespace was made with it and has nothing
// yet: `ctr run --cni`, and others, make the network between Create and Start. A
// machine cannot be given a NIC later, so this one is there from the beginning,
// and out of sight in the guest until Take.
type Spare struct {
	NIC
	ns    *os.File
	index uint32 // of the tap, which is off
}

// NewSpare makes a spare NIC in a namespace, which stays the caller's. What it
// has goes with the namespace.
func NewSpare(namespace *os.File) (_ *Spare, retErr error) {
	fd, err := unix.FcntlInt(namespace.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	s := &Spare{ns: os.NewFile(uintptr(fd), namespace.Name())}
	defer func() {
		if retErr != nil {
			s.CloseTap()
			_ = s.Close()
		}
	}()
	if s.MAC, err = localAddress(); err != nil {
		return nil, err
	}
	err = inside(s.ns, func() (err error) {
		conn, err := netlink.Dial()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		name := ""
		if s.Tap, name, err = newTap(); err != nil {
			return err
		}
		s.index, err = tapIndex(conn, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("have a NIC ready for a later network: %w", err)
	}
	return s, nil
}

// localAddress draws an address that no manufacturer gives (IEEE 802, the bit
// "local" set and "multicast" not).
func localAddress() (net.HardwareAddr, error) {
	mac := make(net.HardwareAddr, 6)
	if _, err := rand.Read(mac); err != nil {
		return nil, err
	}
	mac[0] = mac[0]&^1 | 2
	return mac, nil
}

// Take has the NIC stand for the interface that the namespace has got, and says
// what the guest is to have; nil if there is still none.
func (s *Spare) Take() (request *agentapi.NetworkRequest, err error) {
	err = inside(s.ns, func() (err error) {
		conn, err := netlink.Dial()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		found, err := read(conn)
		if err != nil || found.cards() == 0 {
			return err
		}
		if n := found.cards(); n > 1 {
			return fmt.Errorf("it has got %d interfaces since the container was created, and one is possible: have the network made before, as the CRI does: %w",
				n, errdefs.ErrFailedPrecondition)
		}
		if err := found.join(s.index); err != nil {
			return err
		}
		request = found.result
		request.Spare = s.MAC
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("hand the container's network to its VM: %w", err)
	}
	return request, nil
}

// join redirects the one interface with an address to a tap, and back.
func (s *scan) join(tap uint32) error {
	for _, l := range s.links {
		if l.api.Mac == nil {
			continue
		}
		if err := redirect(s.conn, tap, l.index); err != nil {
			return fmt.Errorf("tap interface: %w", err)
		}
		if err := redirect(s.conn, l.index, tap); err != nil {
			return errors.Join(fmt.Errorf("interface %s: %w", l.api.Name, err), restore(s.conn, tap))
		}
		return raise(s.conn, tap, l.api.Mtu)
	}
	return nil
}

// CloseTap closes the tap, which a machine that has it does not need any more.
func (s *Spare) CloseTap() {
	if s.Tap != nil {
		_ = s.Tap.Close()
		s.Tap = nil
	}
}

// Close lets go of the namespace.
func (s *Spare) Close() error { return s.ns.Close() }
