// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"berth/sandbox/agent"
	"berth/sandbox/agentapi"
	"berth/test/leak"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// space is a network namespace of a test's.
type space struct {
	*testing.T
	ns *os.File
}

func newSpace(t *testing.T) *space {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: network namespaces are made")
	}
	for _, program := range []string{"ip", "tc", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s: apt-get install iproute2 util-linux", program)
		}
	}
	ns, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return &space{t, ns}
}

func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.ns.Fd()) }

// veth adds an interface that is on, whose other end is in a namespace of its own.
func (s *space) veth(name, mac string, mtu int) {
	s.Helper()
	far := newSpace(s.T)
	s.run(fmt.Sprintf("ip link add %s address %s mtu %d type veth peer name far mtu %d netns %s", name, mac, mtu, mtu, far.path()))
	far.run("ip link set far up")
	s.run("ip link set " + name + " addrgenmode none\nip link set " + name + " up")
}

// The addresses of a first and a second interface.
const mac1, mac2 = "02:00:00:00:00:01", "02:00:00:00:00:02"

// run runs programs in the namespace, a line each, and gives what they said.
func (s *space) run(lines string) string {
	s.Helper()
	var all strings.Builder
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		out, err := exec.Command("nsenter", append([]string{"--net=" + s.path()}, words...)...).CombinedOutput()
		if err != nil {
			s.Fatalf("%s: %v: %s", strings.TrimSpace(line), err, out)
		}
		all.Write(out)
	}
	return all.String()
}

// open hands the network of the namespace over.
func (s *space) open() (*Network, *Record, error) {
	var record *Record
	n, err := Open(s.path(), s.ns, func(r Record) error {
		if redirects := s.redirects(); len(redirects) > 0 {
			s.Errorf("before it was noted there is %q", redirects)
		}
		record = &r
		return nil
	})
	if err == nil {
		s.Cleanup(n.Close)
	}
	return n, record, err
}

// redirects are the filters on interfaces that are not taps.
func (s *space) redirects() (all []string) {
	s.Helper()
	for line := range strings.Lines(s.run("tc qdisc show")) {
		if strings.Contains(line, "ingress") && !strings.Contains(line, "dev berth") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// pod is what CNI plugins do with the network of a pod, and more.
const pod = `
ip link set lo up
ip addr add 10.1.0.2/24 brd 10.1.0.255 dev eth0
ip addr add 10.1.0.3/24 dev eth0
ip addr add 10.5.0.2/24 dev eth0 noprefixroute
ip addr add 10.2.0.1 peer 10.2.0.9/32 dev net1
ip addr add 192.0.2.7/32 dev lo
ip addr add fd00:1::2/64 dev eth0 nodad
ip addr add fe80::2/64 dev eth0 nodad
ip route add default via 10.1.0.1 dev eth0 src 10.1.0.3 mtu lock 1300
ip route add 169.254.1.1 dev net1 scope link
ip route add 10.20.0.0/16 via 169.254.1.1 dev net1 metric 5
ip route add 10.21.0.0/16 via 198.51.100.1 dev net1 onlink
ip route add 10.22.0.0/16 nexthop via 10.1.0.1 dev eth0 weight 2 nexthop via 169.254.1.1 dev net1
ip route add blackhole 10.23.0.0/16
ip route append 10.25.0.0/16 dev net1 scope link
ip route append 10.25.0.0/16 dev eth0 scope link
ip route add 10.24.0.0/16 via inet6 fe80::1 dev eth0
ip route add default via fe80::1 dev eth0
ip route add fd00:2::/64 via fd00:1::1 dev eth0 metric 7
ip route add unreachable fd00:3::/64
ip route add 10.30.0.0/16 dev net1 table 100
ip -6 route add fd00:4::/64 dev net1 table 100
ip rule add from 10.2.0.1 table 100 priority 99
ip -6 rule add from fd00:4::1 table 100 priority 98
ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:aa dev net1 nud permanent
ip neigh add fe80::1 lladdr 02:00:00:00:00:bb dev eth0 nud permanent
ip neigh add 10.1.0.77 lladdr 02:00:00:00:00:cc dev eth0 nud reachable
`

// What is read of a pod, and set up by an agent, is the same when it is read
// again, there.
func TestGuestHasWhatThePodHas(t *testing.T) {
	host := newSpace(t)
	host.veth("eth0", mac1, 1400)
	host.veth("net1", mac2, 9000)
	host.run("ip link add off type veth peer name offs\n" + pod)
	n, record, err := host.open()
	if err != nil {
		t.Fatal(err)
	}
	if len(n.NICs) != 2 || n.NICs[0].MAC.String() != "02:00:00:00:00:02" && n.NICs[0].MAC.String() != "02:00:00:00:00:01" {
		t.Errorf("NICs: %v", n.NICs)
	}
	if len(record.Interfaces) != 2 || len(host.redirects()) != 2 {
		t.Errorf("redirects: %v, %q", record, host.redirects())
	}
	taps := host.run("ip -d -o link show type tun")
	for _, want := range []string{"mtu 1400", "mtu 9000", "NOARP", "addrgenmode none"} {
		if strings.Count(taps, "\n") != 2 || !strings.Contains(taps, want) {
			t.Errorf("no %q at the taps:\n%s", want, taps)
		}
	}

	guest := newSpace(t)
	// The NICs have each other's name, as the machine's order would have it.
	guest.run("ip link set lo up")
	guest.veth("net1", mac1, 1500)
	guest.veth("eth0", mac2, 1500)
	guest.run(`ip link set net1 down
		ip link set eth0 down
		ip link set net1 addrgenmode eui64
		ip link set eth0 addrgenmode eui64`)
	if err := inside(guest.ns, func() error { return agent.SetUpNetwork(n.Request) }); err != nil {
		t.Fatalf("%v\n%s", err, prototext.Format(n.Request))
	}
	again, _, err := guest.open()
	if err != nil {
		t.Fatal(err)
	}
	a, b := n.Request, again.Request
	sortAll(a)
	sortAll(b)
	if !proto.Equal(a, b) {
		t.Errorf("the pod has\n%s\nthe guest has\n%s", prototext.Format(a), prototext.Format(b))
	}
	if len(a.Routes) < 14 || len(a.Neighbours) != 2 || len(a.Rules) != 2 || len(a.Interfaces) != 3 {
		t.Errorf("of the pod was read\n%s", prototext.Format(a))
	}
	if out := guest.run("ip addr"); strings.Contains(out, "tentative") {
		t.Errorf("the guest looks for duplicates:\n%s", out)
	}
	for range 2 {
		if err := record.Remove(); err != nil {
			t.Error(err)
		}
		if left := host.redirects(); len(left) > 0 {
			t.Errorf("left are %q", left)
		}
	}
	n.Close()
	if left := host.run("ip -o link show type tun"); left != "" {
		t.Errorf("left are the taps\n%s", left)
	}
}

// What was set in the pod's namespace is set in the guest's, and nothing else is.
func TestSysctls(t *testing.T) {
	host := newSpace(t)
	host.veth("eth0", mac1, 1500)
	host.run("ip link set lo up")
	n, _, err := host.open()
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Request.Sysctls) > 0 {
		t.Errorf("of what nobody has set was read %v", n.Request.Sysctls)
	}
	n.Close()
	// ip_forward sets those of the interfaces, of which one is then set back.
	host.run(`sysctl -q -w net.ipv4.ip_forward=1
		sysctl -q -w net.core.somaxconn=4711
		sysctl -q -w net.ipv4.conf.eth0.forwarding=0
		sysctl -q -w net.ipv4.conf.eth0.arp_announce=2
		sysctl -q -w net.ipv6.conf.default.hop_limit=77
		sysctl -q -w net.ipv6.neigh.eth0.gc_stale_time=123
		sysctl -q -w net.ipv4.conf.lo.rp_filter=2
		tc qdisc del dev eth0 ingress`)
	if n, _, err = host.open(); err != nil {
		t.Fatal(err)
	}
	guest := newSpace(t)
	guest.veth("other", mac1, 1500)
	guest.run("ip link set other down")
	n.Request.Sysctls = append(n.Request.Sysctls, &agentapi.Sysctl{Name: "ipv4/of_a_later_kernel", Value: "1"},
		&agentapi.Sysctl{Name: "ipv4/tcp_congestion_control", Value: "of_a_later_kernel"})
	if err := inside(guest.ns, func() error { return agent.SetUpNetwork(n.Request) }); err != nil {
		t.Fatalf("%v\n%s", err, prototext.Format(n.Request))
	}
	ask := `sysctl net.ipv4.ip_forward net.core.somaxconn net.ipv4.conf.all.forwarding net.ipv4.conf.default.forwarding
		sysctl net.ipv4.conf.eth0.forwarding net.ipv4.conf.eth0.arp_announce net.ipv6.conf.default.hop_limit
		sysctl net.ipv6.neigh.eth0.gc_stale_time net.ipv4.conf.lo.rp_filter net.ipv4.conf.eth0.rp_filter`
	if want, got := host.run(ask), guest.run(ask); got != want {
		t.Errorf("the pod has\n%sthe guest has\n%s", want, got)
	}
}

// What is no parameter of the network's is refused.
func TestForeignSysctl(t *testing.T) {
	guest := newSpace(t)
	r := &agentapi.NetworkRequest{Sysctls: []*agentapi.Sysctl{{Name: "../kernel/hostname", Value: "mine"}}}
	if err := inside(guest.ns, func() error { return agent.SetUpNetwork(r) }); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
}

// sortAll makes the lists comparable whose order says nothing.
func sortAll(r *agentapi.NetworkRequest) {
	text := func(m proto.Message) string {
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		return string(b)
	}
	slices.SortFunc(r.Interfaces, func(a, b *agentapi.Interface) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Neighbours, func(a, b *agentapi.Neighbour) int { return strings.Compare(text(a), text(b)) })
}

// A namespace without interfaces is a network without NICs, and touches nothing.
func TestEmptyNamespace(t *testing.T) {
	for name, lines := range map[string]string{"new": "", "lo": "ip link set lo up", "down": "ip link add eth0 type veth peer name far"} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			s.run(lines)
			n, record, err := s.open()
			if err != nil || len(n.NICs) != 0 || record != nil {
				t.Errorf("%+v, %v, %v", n, record, err)
			}
		})
	}
}

// What cannot be handed over is refused with a sentence, and nothing is left.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		setUp func(s *space)
		class error
		says  string
	}{
		"twice the same MAC": {func(s *space) { s.veth("eth1", mac1, 1500) }, errdefs.ErrInvalidArgument, "same address"},
		"not Ethernet":       {func(s *space) { s.run("ip tuntap add tun0 mode tun\nip link set tun0 up") }, errdefs.ErrInvalidArgument, "tun0"},
		"a route that encapsulates": {func(s *space) {
			s.run("ip route add 10.9.0.0/16 encap ip id 7 dst 10.0.0.9 dev eth0")
		}, errdefs.ErrInvalidArgument, "encapsulates"},
		"somebody's qdisc": {func(s *space) {
			s.veth("eth1", mac2, 1500)
			s.run("tc qdisc add dev eth1 clsact")
		}, errdefs.ErrFailedPrecondition, "interface eth1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			s.veth("eth0", mac1, 1500)
			c.setUp(s)
			_, _, err := s.open()
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if left := s.run("tc qdisc show dev eth0\nip -o link show type tun"); strings.Contains(left, "ingress") || strings.Contains(left, "berth") {
				t.Errorf("left are\n%s", left)
			}
			if c.says == "interface eth1" && !strings.Contains(s.run("tc qdisc show dev eth1"), "clsact") {
				t.Error("what is somebody's is gone")
			}
		})
	}
}

// What cannot be noted is not made.
func TestNoteFails(t *testing.T) {
	s := newSpace(t)
	s.veth("eth0", mac1, 1500)
	full := errors.New("no space")
	if _, err := Open(s.path(), s.ns, func(Record) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if out := s.redirects(); len(out) > 0 {
		t.Errorf("%q", out)
	}
}

// A record is of one namespace, not of what is at its path by now.
func TestRecordOfAnother(t *testing.T) {
	s, other := newSpace(t), newSpace(t)
	for _, s := range []*space{s, other} {
		s.veth("eth0", mac1, 1500)
	}
	_, record, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.open(); err != nil {
		t.Fatal(err)
	}
	mine := record.Path
	for _, path := range []string{other.path(), "/proc/self/status", "/nonexistent"} {
		record.Path = path
		if err := record.Remove(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(other.redirects()) != 1 || len(s.redirects()) != 1 {
		t.Errorf("redirects: %q, %q", other.redirects(), s.redirects())
	}
	record.Path = mine
	if err := record.Remove(); err != nil || len(s.redirects()) != 0 {
		t.Errorf("%v, %q", err, s.redirects())
	}
}

// What a router gave the pod it will give the guest, which asks it; what is not
// to have IPv6 has none.
func TestAutoconf(t *testing.T) {
	s := newSpace(t)
	s.veth("eth0", mac1, 1500)
	s.veth("eth1", mac2, 1500)
	s.run(`ip addr add fd00:9::2/64 dev eth0 valid_lft 1000 preferred_lft 1000 nodad
		ip addr add 10.9.0.2/24 dev eth0 valid_lft 1000 preferred_lft 1000
		ip route add fd00:8::/64 via fe80::9 dev eth0 proto ra
		sysctl -q -w net.ipv6.conf.eth1.disable_ipv6=1`)
	n, _, err := s.open()
	if err != nil {
		t.Fatal(err)
	}
	guest := newSpace(t)
	guest.veth("eth0", mac1, 1500)
	guest.veth("eth1", mac2, 1500)
	guest.run("ip link set eth0 down\nip link set eth1 down")
	if err := inside(guest.ns, func() error { return agent.SetUpNetwork(n.Request) }); err != nil {
		t.Fatalf("%v\n%s", err, prototext.Format(n.Request))
	}
	out := guest.run("ip addr\nip -6 route\nsysctl net.ipv6.conf.eth0.accept_ra net.ipv6.conf.eth1.disable_ipv6")
	for _, want := range []string{"inet 10.9.0.2/24", "eth0.accept_ra = 2", "eth1.disable_ipv6 = 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the guest:\n%s", want, out)
		}
	}
	if strings.Contains(out, "fd00:") {
		t.Errorf("what is the router's to give is in the guest:\n%s", out)
	}
}
