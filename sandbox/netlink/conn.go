// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// bufferSize is more than what the kernel puts into one datagram of a dump
// (32 KiB, netlink_dump in net/netlink/af_netlink.c).
const bufferSize = 64 << 10

// Conn is a socket to the kernel.
type Conn struct {
	fd  int
	seq uint32
	buf []byte
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open an rtnetlink socket: %w", err)
	}
	// Sentences for errors, and no copies of requests in them. Kernels before
	// 4.12 have neither, and the answers can be told apart.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open an rtnetlink socket: %w", err)
	}
	return &Conn{fd: fd, buf: make([]byte, bufferSize)}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Namespace is the cookie of the network namespace that the socket is in. The
// kernel never gives it to another, unlike the inode's number.
func (c *Conn) Namespace() (uint64, error) {
	cookie, err := unix.GetsockoptUint64(c.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	return cookie, nil
}

// Do sends a request and waits until the kernel has done it.
func (c *Conn) Do(m *Message) error {
	if err := c.send(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK); err != nil {
		return err
	}
	for {
		done, err := c.receive(func(Reply) error { return nil })
		if done || err != nil {
			return err
		}
	}
}

// ErrChanged is that of a dump during which what is dumped was changed, so that
// something may be missing or there twice.
var ErrChanged = errors.New("changed while it was read")

// Dump sends a request and hands over all that the kernel lists. A reply is
// valid during the call alone. After an error of f's the rest is not handed over.
func (c *Conn) Dump(m *Message, f func(Reply) error) error {
	if err := c.send(m, unix.NLM_F_REQUEST|unix.NLM_F_DUMP); err != nil {
		return err
	}
	var failed error
	changed := false
	for {
		done, err := c.receive(func(r Reply) error {
			changed = changed || r.interrupted
			if failed == nil && r.Type != unix.NLMSG_DONE {
				failed = f(r)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	if failed == nil && changed {
		failed = ErrChanged
	}
	return failed
}

func (c *Conn) send(m *Message, flags uint16) error {
	c.seq++
	err := ignoringEINTR(func() error {
		return unix.Sendto(c.fd, m.encode(flags, c.seq), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	if err != nil {
		return fmt.Errorf("send an rtnetlink message: %w", err)
	}
	return nil
}

// receive reads one datagram of the kernel's. done is true once it had the last
// answer to the last request.
func (c *Conn) receive(f func(Reply) error) (done bool, err error) {
	var n int
	var from unix.Sockaddr
	err = ignoringEINTR(func() (err error) {
		n, from, err = unix.Recvfrom(c.fd, c.buf, 0)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("receive an rtnetlink message: %w", err)
	}
	if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
		return false, nil // another process's: anybody may send
	}
	return parse(c.buf[:n], c.seq, f)
}

func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
