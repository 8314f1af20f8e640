// SPDX-License-Identifier: Apache-2.0

package netlink

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

func dial(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// The loopback interface is listed in every namespace.
func TestDump(t *testing.T) {
	c := dial(t)
	var names []string
	for range 2 { // the socket is good for more than one
		names = nil
		err := c.Dump(New(unix.RTM_GETLINK, 0, unix.IfInfomsg{}), func(r Reply) error {
			var h unix.IfInfomsg
			attrs, err := r.Header(&h)
			if h.Flags&unix.IFF_LOOPBACK != 0 {
				names = append(names, attrs.String(unix.IFLA_IFNAME))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(names) != 1 || names[0] != "lo" {
		t.Errorf("loopback interfaces: %q", names)
	}
	stop := errors.New("enough")
	if err := c.Dump(New(unix.RTM_GETLINK, 0, unix.IfInfomsg{}), func(Reply) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a dump that its reader has enough of: %v", err)
	}
	// What was not read of that one does not become part of the next.
	if err := c.Do(New(unix.RTM_GETLINK, 0, unix.IfInfomsg{Index: 1})); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// An error is the kernel's, with its sentence.
func TestErrors(t *testing.T) {
	c := dial(t)
	err := c.Do(New(unix.RTM_GETLINK, 0, unix.IfInfomsg{Index: 1 << 30}))
	if !errors.Is(err, unix.ENODEV) {
		t.Errorf("an interface that is not there: %v", err)
	}
	m := New(unix.RTM_GETNEIGH, 0, unix.NdMsg{Family: unix.AF_INET, State: unix.NUD_REACHABLE})
	if err := c.Do(m); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), ":") {
		t.Errorf("a request that cannot be: %v, with no sentence", err)
	}
	if err := (&Conn{fd: -1}).Do(m); !errors.Is(err, unix.EBADF) {
		t.Errorf("without a socket: %v", err)
	}
}

func TestNamespace(t *testing.T) {
	a, b := dial(t), dial(t)
	x, err := a.Namespace()
	if err != nil {
		t.Fatal(err)
	}
	if y, err := b.Namespace(); err != nil || x != y || x == 0 {
		t.Errorf("one namespace is %d and %d, %v", x, y, err)
	}
}

// What is added is read again, nested or not, aligned or not.
func TestAttributes(t *testing.T) {
	m := New(1, 0, unix.IfInfomsg{Index: 7})
	m.Add(3, "name")
	m.Add(4, []byte{1, 2, 3, 4, 5, 6})
	m.Nest(5, func() {
		m.Add(1, uint32(42))
		m.Nest(2, func() { m.Add(9, uint8(1)) })
	})
	m.Add(6, uint32(43))
	var h unix.IfInfomsg
	attrs, err := Reply{body: m.Body()}.Header(&h)
	if err != nil || h.Index != 7 {
		t.Fatalf("%+v, %v", h, err)
	}
	inner, err := Parse(attrs[5])
	if err != nil {
		t.Fatal(err)
	}
	innermost, err := Parse(inner[2])
	if err != nil {
		t.Fatal(err)
	}
	if attrs.String(3) != "name" || !bytes.Equal(attrs[4], []byte{1, 2, 3, 4, 5, 6}) || inner.Uint32(1) != 42 ||
		!bytes.Equal(innermost[9], []byte{1}) || attrs.Uint32(6) != 43 {
		t.Errorf("%v, %v, %v", attrs, inner, innermost)
	}
	if attrs.Uint32(99) != 0 || attrs.String(99) != "" {
		t.Error("what is not there has a value")
	}
}

// FuzzParse reads datagrams that no kernel would send: all is within bounds.
func FuzzParse(f *testing.F) {
	for _, m := range []*Message{New(unix.NLMSG_DONE, 0, int32(-5)), New(unix.NLMSG_ERROR, 0, make([]byte, 40))} {
		f.Add(m.encode(unix.NLM_F_DUMP_INTR, 1))
	}
	link := New(unix.RTM_NEWLINK, 0, unix.IfInfomsg{})
	link.Add(unix.IFLA_IFNAME, "eth0")
	f.Add(append(link.encode(0, 1), link.encode(flagAckTLVs, 1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_, _ = parse(b, 1, func(r Reply) error {
			n += len(r.body)
			var h unix.IfInfomsg
			attrs, err := r.Header(&h)
			if err != nil {
				return nil
			}
			total := 0
			for _, v := range attrs {
				total += len(v)
			}
			if total > len(r.body) {
				t.Errorf("%d bytes of attributes in %d", total, len(r.body))
			}
			return nil
		})
		if n > len(b) {
			t.Errorf("%d bytes of messages in %d", n, len(b))
		}
	})
}
