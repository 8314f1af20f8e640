// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Loopback takes the connections that are made, within a network namespace, to its
// loopback interface, at any port: there nobody listens, but in the guest somebody
// may. containerd connects so for `kubectl port-forward`. The local address of a
// connection is that to which it was made.
type Loopback struct {
	net.Listener
	files []*os.File // of BPF
}

// OpenLoopback listens in a namespace, for each family that it has.
func OpenLoopback(namespace *os.File) (all []*Loopback, retErr error) {
	defer func() {
		if retErr != nil {
			for _, l := range all {
				_ = l.Close()
			}
			all, retErr = nil, fmt.Errorf("listen to the pod's loopback interface: %w", retErr)
		}
	}()
	for _, f := range []struct {
		family           int32
		network, address string
	}{{unix.AF_INET, "tcp4", "127.0.0.1:0"}, {unix.AF_INET6, "tcp6", "[::1]:0"}} {
		l := new(Loopback)
		err := inside(namespace, func() error { return l.open(f.family, f.network, f.address, namespace) })
		if f.family == unix.AF_INET6 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
			continue // a host, or a namespace, without IPv6
		}
		if err != nil {
			return all, err
		}
		all = append(all, l)
	}
	return all, nil
}

// open is called in the namespace.
func (l *Loopback) open(family int32, network, address string, namespace *os.File) error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctrlErr := c.Control(func(fd uintptr) { // the interface may still be off
			if family == unix.AF_INET {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
			}
		})
		return errors.Join(err, ctrlErr)
	}}
	config.SetMultipathTCP(false) // a socket map has none of those
	listener, err := config.Listen(context.Background(), network, address)
	if err != nil {
		return err
	}
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err == nil {
		ctrlErr := raw.Control(func(fd uintptr) { l.files, err = steer(family, int(fd), namespace) })
		err = errors.Join(err, ctrlErr)
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	l.Listener = listener
	return nil
}

// Close ends it. Connections that were taken stay.
func (l *Loopback) Close() error {
	for _, f := range l.files {
		_ = f.Close()
	}
	return l.Listener.Close()
}
