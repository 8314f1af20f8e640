// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func newTestSpare(s *space) *Spare {
	s.Helper()
	spare, err := NewSpare(s.ns)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		spare.CloseTap()
		if err := spare.Close(); err != nil {
			s.Error(err)
		}
	})
	return spare
}

// A spare NIC stands for nothing until there is an interface, and then for that.
func TestSpare(t *testing.T) {
	s := newSpace(t)
	spare := newTestSpare(s)
	if spare.MAC[0]&3 != 2 {
		t.Errorf("the address %v is not a local one", spare.MAC)
	}
	if r, err := spare.Take(); r != nil || err != nil {
		t.Errorf("of an empty namespace: %v, %v", r, err)
	}
	if up := s.run("ip -o link show up"); up != "" {
		t.Errorf("before there is a network, there is on\n%s", up)
	}
	s.veth("eth0", mac1, 1400)
	s.run("ip addr add 10.0.0.2/24 dev eth0\nip route add default via 10.0.0.1")
	r, err := spare.Take()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Spare, spare.MAC) || len(r.Interfaces) != 1 || r.Interfaces[0].Name != "eth0" || r.Interfaces[0].Mtu != 1400 || len(r.Routes) == 0 {
		t.Errorf("the guest is to have %v", r)
	}
	if got := s.redirects(); !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, "eth0") }) {
		t.Errorf("redirects %q", got)
	}
}

// What one NIC cannot stand for is refused with a sentence, and nothing is left
// of the attempt.
func TestSpareRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		setUp func(s *space)
		class error
		says  string
	}{
		"two interfaces":   {func(s *space) { s.veth("eth1", mac2, 1500) }, errdefs.ErrFailedPrecondition, "2 interfaces"},
		"somebody's qdisc": {func(s *space) { s.run("tc qdisc add dev eth0 clsact") }, errdefs.ErrFailedPrecondition, "interface eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			spare := newTestSpare(s)
			s.veth("eth0", mac1, 1500)
			c.setUp(s)
			if _, err := spare.Take(); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if left := s.run("tc qdisc show"); strings.Contains(left, "ingress") {
				t.Errorf("left are\n%s", left)
			}
		})
	}
}
