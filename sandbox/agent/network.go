// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/agentapi"
	"berth/sandbox/netlink"
)

// SetUpNetwork is asked by the host.
func (s *server) SetUpNetwork(_ context.Context, r *agentapi.NetworkRequest) (*agentapi.Empty, error) {
	if !s.cfg.Network {
		return nil, fmt.Errorf("this agent's network is not a guest's: %w", errdefs.ErrFailedPrecondition)
	}
	return &agentapi.Empty{}, SetUpNetwork(r)
}

// SetUpNetwork makes the network namespace of the calling thread what r has. It
// must have the interfaces, by their addresses, and they be as new.
func SetUpNetwork(r *agentapi.NetworkRequest) error {
	conn, err := netlink.Dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	n := &network{conn: conn, index: make(map[string]uint32)}
	return n.setUp(r)
}

// network is the guest's, as it is being set up.
type network struct {
	conn  *netlink.Conn
	index map[string]uint32 // of the interfaces, by the names that they get
}

func (n *network) setUp(r *agentapi.NetworkRequest) error {
	if err := n.find(r.Interfaces); err != nil {
		return err
	}
	if err := n.rename(r.Interfaces); err != nil {
		return err
	}
	for _, s := range r.Sysctls {
		if err := tryParameter(s); err != nil {
			return err
		}
	}
	for _, i := range r.Interfaces {
		if err := n.raise(i); err != nil {
			return fmt.Errorf("interface %s: %w", i.Name, err)
		}
	}
	for _, route := range r.Routes {
		if err := n.route(route); err != nil {
			return fmt.Errorf("route to %v/%d: %w", net.IP(route.Destination), route.Prefix, err)
		}
	}
	for _, b := range r.Neighbours {
		if err := n.neighbour(b); err != nil {
			return fmt.Errorf("neighbour %v: %w", net.IP(b.Address), err)
		}
	}
	for _, rule := range r.Rules {
		m := netlink.New(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, rule.Message)
		if err := n.conn.Do(m); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("rule of routing: %w", err)
		}
	}
	return nil
}

// find finds the machine's NICs by their addresses, and lo by having none.
func (n *network) find(interfaces []*agentapi.Interface) error {
	byMAC := make(map[string]uint32)
	err := n.conn.Dump(netlink.New(unix.RTM_GETLINK, 0, unix.IfInfomsg{}), func(r netlink.Reply) error {
		var h unix.IfInfomsg
		attrs, err := r.Header(&h)
		if err != nil {
			return err
		}
		mac := string(attrs[unix.IFLA_ADDRESS])
		if h.Flags&unix.IFF_LOOPBACK != 0 {
			mac = ""
		}
		byMAC[mac] = uint32(h.Index)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the machine's interfaces: %w", err)
	}
	for _, i := range interfaces {
		index, ok := byMAC[string(i.Mac)]
		if !ok {
			return fmt.Errorf("interface %s: the machine has none with the address %s: %w", i.Name, net.HardwareAddr(i.Mac), errdefs.ErrNotFound)
		}
		n.index[i.Name] = index
	}
	return nil
}

// rename gives the interfaces their names, which may be those that others have
// so far: all of them first get one that none has.
func (n *network) rename(interfaces []*agentapi.Interface) error {
	for _, name := range []func(*agentapi.Interface) string{
		func(i *agentapi.Interface) string { return fmt.Sprintf("berth%d", n.index[i.Name]) },
		func(i *agentapi.Interface) string { return i.Name },
	} {
		for _, i := range interfaces {
			if len(i.Mac) == 0 {
				continue
			}
			m := netlink.New(unix.RTM_NEWLINK, 0, unix.IfInfomsg{Index: int32(n.index[i.Name])})
			m.Add(unix.IFLA_IFNAME, name(i))
			if err := n.conn.Do(m); err != nil {
				return fmt.Errorf("name the interface %s: %w", name(i), err)
			}
		}
	}
	return nil
}

// otherKernel is what a kernel says of a parameter or a value that it has not.
var otherKernel = []error{fs.ErrNotExist, fs.ErrPermission, unix.EINVAL, unix.ERANGE, unix.EOPNOTSUPP}

// tryParameter sets a parameter of the namespace of the calling thread, if its
// kernel has one that can have that value.
func tryParameter(s *agentapi.Sysctl) error {
	if !filepath.IsLocal(s.Name) {
		return fmt.Errorf("sysctl %q is none of the network's: %w", s.Name, errdefs.ErrInvalidArgument)
	}
	err := os.WriteFile(filepath.Join("/proc/sys/net", s.Name), []byte(s.Value), 0)
	if err != nil && !slices.ContainsFunc(otherKernel, func(is error) bool { return errors.Is(err, is) }) {
		return fmt.Errorf("set net/%s to %q: %w", s.Name, s.Value, err)
	}
	return nil
}

func (n *network) neighbour(b *agentapi.Neighbour) error {
	m := netlink.New(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, unix.NdMsg{
		Family: family(b.Address), Ifindex: int32(n.index[b.Interface]), State: unix.NUD_PERMANENT,
	})
	m.Add(unix.NDA_DST, b.Address)
	m.Add(unix.NDA_LLADDR, b.Mac)
	return n.conn.Do(m)
}

func family(address []byte) uint8 {
	if len(address) == net.IPv4len {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
