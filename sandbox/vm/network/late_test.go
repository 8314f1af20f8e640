// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func newTestLate(s *space) *Late {
	s.Helper()
	l, err := NewLate(s.ns)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := l.Close(); err != nil {
			s.Error(err)
		}
	})
	return l
}

// What comes late is handed over once it is there, all of it.
func TestLate(t *testing.T) {
	s := newSpace(t)
	l := newTestLate(s)
	if n, err := l.Take(4); n != nil || err != nil {
		t.Errorf("of an empty namespace: %v, %v", n, err)
	}
	s.veth("eth0", mac1, 1400)
	s.veth("eth1", mac2, 9000)
	s.run("ip addr add 10.0.0.2/24 dev eth0\nip route add default via 10.0.0.1")
	n, err := l.Take(2)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if len(n.NICs) != 2 || len(n.Request.Interfaces) != 2 || len(n.Request.Routes) == 0 {
		t.Errorf("the guest is to have %v by %d NICs", n.Request, len(n.NICs))
	}
	if got := s.redirects(); len(got) != 2 {
		t.Errorf("redirects %q", got)
	}
}

// What cannot be handed over is refused with a sentence, and nothing is left of the
// attempt.
func TestLateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		setUp func(s *space)
		class error
		says  string
	}{
		"too many interfaces": {func(s *space) { s.veth("eth1", mac2, 1500) }, errdefs.ErrFailedPrecondition, "2 interfaces"},
		"somebody's qdisc":    {func(s *space) { s.run("tc qdisc add dev eth0 clsact") }, errdefs.ErrFailedPrecondition, "interface eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			l := newTestLate(s)
			s.veth("eth0", mac1, 1500)
			c.setUp(s)
			if _, err := l.Take(1); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if left := s.run("tc qdisc show\nip -o link show type tun"); strings.Contains(left, "ingress") || strings.Contains(left, "berth") {
				t.Errorf("left are\n%s", left)
			}
		})
	}
}
