// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

// bridgeNetwork is a CNI network of both families on a bridge of its own in the
// node's network namespace.
func bridgeNetwork(number, mtu int, routes string) string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0", "name": "net%[1]d",
  "plugins": [{
    "type": "bridge", "bridge": "cni%[1]d", "isGateway": true, "mtu": %[2]d,
    "ipam": {"type": "host-local", "dataDir": "@DIR@/ipam", "routes": [%[3]s],
      "ranges": [[{"subnet": "10.88.%[1]d.0/24"}], [{"subnet": "fd00:88:%[1]d::/64"}]]}
  }]
}`, number, mtu, routes)
}

// TestPodNetworks has two pods of two interfaces each, one of them with small
// frames and one with large ones, and both families. They reach each other and
// the node by all of them.
func TestPodNetworks(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{Networks: []string{
			bridgeNetwork(1, 1400, `{"dst": "0.0.0.0/0"}, {"dst": "::/0"}`),
			bridgeNetwork(2, 9000, `{"dst": "10.99.0.0/16", "gw": "10.88.2.1"}`),
		}})
		ctx := testContext(t, n)
		first, second := runPod(ctx, t, n, "first", r), runPod(ctx, t, n, "second", r)
		a := must(first.Run(ctx, "a", idle...))(t)
		// It serves its pod's loopback interface, too.
		serve := "mkdir /www; echo served > /www/file; exec httpd -f -p 8080 -h /www"
		b := must(second.Run(ctx, "b", "sh", "-c", serve))(t)
		beside := must(second.Run(ctx, "beside", idle...))(t)

		sh := func(container, script string) string {
			t.Helper()
			return must(n.Crictl(ctx, "exec", container, "sh", "-c", script))(t)
		}
		links := sh(a, "ip -o link; ip addr; ip route; ip -6 route")
		for _, want := range []string{
			"eth0", "mtu 1400", "eth1", "mtu 9000", "inet 10.88.1.", "inet 10.88.2.", "inet6 fd00:88:1::", "inet6 fd00:88:2::",
			"default via 10.88.1.1 dev eth0", "10.99.0.0/16 via 10.88.2.1 dev eth1", "default via fd00:88:1::1 dev eth0",
		} {
			if !strings.Contains(links, want) {
				t.Errorf("no %q in the pod:\n%s", want, links)
			}
		}
		if strings.Contains(links, "tentative") {
			t.Errorf("an address is still looked for:\n%s", links)
		}
		for _, to := range []string{"10.88.1.1", "10.88.2.1", "fd00:88:1::1", "fd00:88:2::1"} {
			sh(a, "ping -c 1 -W 5 "+to)
		}
		for _, network := range []struct {
			iface, prefix string
			payload       int
		}{
			{"eth0", "10.88.1.", 1400 - 28}, {"eth1", "10.88.2.", 9000 - 28},
			{"eth0", "fd00:88:1::", 1400 - 48}, {"eth1", "fd00:88:2::", 9000 - 48},
		} {
			of := address(t, sh(b, "ip -o addr show dev "+network.iface), network.prefix)
			sh(a, fmt.Sprintf("ping -c 1 -W 5 -s %d %s", network.payload, of))
			url := of
			if strings.Contains(of, ":") {
				url = "[" + of + "]"
			}
			if got := sh(a, fmt.Sprintf("wget -q -O - http://%s:8080/file", url)); got != "served\n" {
				t.Errorf("from pod to pod by %s: %q", of, got)
			}
			// From the node, into the pod.
			if got := must(n.Run(n.Command(ctx, "busybox", "wget", "-q", "-O", "-", fmt.Sprintf("http://%s:8080/file", url))))(t); got != "served\n" {
				t.Errorf("from the node by %s: %q", of, got)
			}
		}
		if got := sh(beside, "wget -q -O - http://127.0.0.1:8080/file; wget -q -O - http://[::1]:8080/file"); got != "served\nserved\n" {
			t.Errorf("by the pod's own loopback interface: %q", got)
		}
		if got := sh(beside, "cat /etc/hosts /etc/resolv.conf >/dev/null && echo there"); got != "there\n" {
			t.Errorf("hosts and resolv.conf: %q", got)
		}
		if out, err := n.Crictl(ctx, "exec", a, "sh", "-c", "wget -q -O - http://127.0.0.1:8080/file"); err == nil {
			t.Errorf("a pod reaches another by loopback: %q", out)
		}
	})
}

// address finds the address that begins with a prefix in the output of ip -o.
func address(t *testing.T, list, prefix string) string {
	t.Helper()
	for _, field := range strings.Fields(list) {
		if strings.HasPrefix(field, prefix) {
			of, _, _ := strings.Cut(field, "/")
			return of
		}
	}
	t.Fatalf("no address %s...:\n%s", prefix, list)
	return ""
}

// emptyNetwork is a network namespace of the test's, and its path.
func emptyNetwork(t *testing.T) string {
	t.Helper()
	var ns *os.File
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends, and with it its stay there
		made <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			ns, err = os.Open("/proc/thread-self/ns/net")
			return err
		}()
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())
}

// in runs a program in a network namespace.
func in(ctx context.Context, t *testing.T, path string, args ...string) string {
	t.Helper()
	return must(shared.Run(shared.Command(ctx, "nsenter", append([]string{"--net=" + path}, args...)...)))(t)
}

// TestRedirectsAreRemoved ends a pod's machine in several ways: of what was put
// on the interface in the pod's network namespace nothing is left, while that is
// still there.
func TestRedirectsAreRemoved(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		for name, victim := range map[string]func(t *testing.T, pid int) int{
			"container deleted": func(*testing.T, int) int { return 0 },
			"monitor killed":    func(_ *testing.T, pid int) int { return pid },
			"shim killed":       shimOf,
		} {
			t.Run(name, func(t *testing.T) {
				ctx := testContext(t, shared)
				path := emptyNetwork(t)
				in(ctx, t, path, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
				in(ctx, t, path, "ip", "link", "set", "eth0", "up")
				before := in(ctx, t, path, "tc", "qdisc", "show") + in(ctx, t, path, "ip", "-br", "link", "show")
				events := record(ctx, t, shared, identifier(t))
				c := create(ctx, t, shared, r, request{args: idle, spec: []oci.SpecOpts{
					oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path}),
				}})
				exit := start(ctx, t, c.task)
				if out := in(ctx, t, path, "tc", "qdisc", "show"); !strings.Contains(out, "ingress ffff: dev eth0") {
					t.Errorf("a pod that runs has\n%s", out)
				}
				pid := victim(t, int(c.task.Pid()))
				if pid == 0 {
					kill(ctx, t, c.task, unix.SIGKILL)
				} else if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if name == "shim killed" { // containerd deletes the task itself
					if got := events.await(ctx, "delete"); got[len(got)-1] != "delete" {
						t.Fatalf("events %q", got)
					}
				} else {
					c.delete(ctx, t, status(ctx, t, exit))
				}
				after := in(ctx, t, path, "tc", "qdisc", "show") + in(ctx, t, path, "ip", "-br", "link", "show")
				if after != before {
					t.Errorf("left is\n%s\nbefore there was\n%s", after, before)
				}
			})
		}
	})
}

// TestNetworkSysctls has parameters of the pod's network namespace set, as the CNI
// plugin tuning does, before there is a pod.
func TestNetworkSysctls(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		path := emptyNetwork(t)
		in(ctx, t, path, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
		in(ctx, t, path, "ip", "link", "set", "eth0", "up")
		for _, set := range []string{"net.core.somaxconn=4711", "net.ipv4.tcp_keepalive_time=77", "net.ipv4.conf.eth0.arp_announce=2"} {
			in(ctx, t, path, "sysctl", "-q", "-w", set)
		}
		c := create(ctx, t, shared, r, request{args: idle, spec: []oci.SpecOpts{
			oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path}),
		}})
		exit := start(ctx, t, c.task)
		out, code := c.exec1(ctx, t, "look", nil, "sh", "-c", "cd /proc/sys/net; cat core/somaxconn ipv4/tcp_keepalive_time ipv4/conf/eth0/arp_announce")
		if code != 0 || out != "4711\n77\n2\n" {
			t.Errorf("status %d, the guest has\n%s", code, out)
		}
		kill(ctx, t, c.task, unix.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestPortForward has crictl forward a port of the node to a pod, as kubectl does:
// containerd connects to the loopback interface of the pod's network namespace.
func TestPortForward(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{Networks: []string{bridgeNetwork(3, 1500, `{"dst": "0.0.0.0/0"}`)}})
		ctx := testContext(t, n)
		p := runPod(ctx, t, n, "served", r)
		serve := "mkdir /www; head -c 3000000 /dev/urandom > /www/file; md5sum < /www/file > /www/sum; exec httpd -f -p 127.0.0.1:8080 -h /www"
		c := must(p.Run(ctx, "web", "sh", "-c", serve))(t)
		must(n.Crictl(ctx, "exec", c, "sh", "-c", "until wget -q -O /dev/null http://127.0.0.1:8080/sum; do :; done"))(t)
		cmd := n.Command(ctx, "crictl", "port-forward", p.ID, "18080:8080", "18081:8081")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.StartCommand(cmd); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.Contains(lines.Text(), "127.0.0.1:18081") {
		}
		go func() { _, _ = io.Copy(io.Discard, out) }() // it ends with crictl
		get := func(port int, name string) string {
			out, _ := n.Run(n.Command(ctx, "busybox", "wget", "-q", "-O", "-", fmt.Sprintf("http://127.0.0.1:%d/%s", port, name)))
			return out
		}
		for range 3 {
			sum := md5.Sum([]byte(get(18080, "file")))
			if want := get(18080, "sum"); !strings.HasPrefix(want, hex.EncodeToString(sum[:])) {
				t.Errorf("what came has the sum %x, in the pod it is %q", sum, want)
			}
		}
		if got := get(18081, "file"); got != "" {
			t.Errorf("at a port where nobody listens: %.100q", got)
		}
	})
}

// TestNoNetwork has a container without a network: neither it nor the machine
// is in anybody else's network namespace.
func TestNoNetwork(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		out, code := c.exec1(ctx, t, "look", nil, "ip", "-o", "link")
		if code != 0 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "lo:") {
			t.Errorf("status %d, interfaces\n%s", code, out)
		}
		pid := int(c.task.Pid())
		machine := in(ctx, t, fmt.Sprintf("/proc/%d/ns/net", pid), "ip", "-o", "link", "show", "up")
		if machine != "" {
			t.Errorf("QEMU is where there is on\n%s", machine)
		}
		var mine, its unix.Stat_t
		for path, st := range map[string]*unix.Stat_t{fmt.Sprintf("/proc/%d/ns/net", shimOf(t, pid)): &mine, fmt.Sprintf("/proc/%d/ns/net", pid): &its} {
			if err := unix.Stat(path, st); err != nil {
				t.Fatal(err)
			}
		}
		if mine.Ino == its.Ino {
			t.Error("QEMU is in the network namespace of its shim")
		}
		kill(ctx, t, c.task, unix.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestLateNetwork has a CNI plugin make two networks between Create and Start, in
// the namespace of the task's process, as `ctr run --cni` does with one: for a
// machine that boots, and for one that is made of a template.
func TestLateNetwork(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		t.Run("booted", func(t *testing.T) { lateNetwork(testContext(t, shared), t, shared, r) })
		t.Run("clone", func(t *testing.T) {
			n := ownNode(t, node.Config{VM: "template = \"cow\"\n"})
			ctx := testContext(t, n)
			t.Run("first", func(t *testing.T) {
				c := create(ctx, t, n, r, request{args: []string{"true"}})
				if code := c.run(ctx, t); code != 0 {
					t.Fatalf("status %d", code)
				}
			})
			must(n.Run(n.Command(ctx, "berth", "guest", "templates", "wait")))(t)
			lateNetwork(ctx, t, n, r)
			if out := must(n.Run(n.Command(ctx, "berth", "guest", "templates")))(t); !strings.Contains(out, " 1 ") {
				t.Errorf("the machine was no clone:\n%s", out)
			}
		})
	})
}

func lateNetwork(ctx context.Context, t *testing.T, n *node.Node, r runtimeCase) {
	c := create(ctx, t, n, r, request{args: idle})
	leases := t.TempDir()
	plugin := func(command string, number int) {
		cmd := n.Command(ctx, "bridge")
		cmd.Env = append(cmd.Env, "CNI_COMMAND="+command, "CNI_CONTAINERID="+identifier(t), fmt.Sprintf("CNI_IFNAME=eth%d", number),
			fmt.Sprintf("CNI_NETNS=/proc/%d/ns/net", c.task.Pid()), "CNI_PATH="+filepath.Dir(cmd.Path))
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "late%[1]d", "type": "bridge", "bridge": "late%[1]d",
			"isGateway": true, "mtu": %[2]d, "ipam": {"type": "host-local", "dataDir": %[3]q,
			"routes": [{"dst": "10.%[4]d.0.0/16"}], "ranges": [[{"subnet": "10.87.%[1]d.0/24"}]]}}`, number, 1400+number, leases, 100+number))
		must(n.Run(cmd))(t)
	}
	plugin("ADD", 0)
	plugin("ADD", 1)
	exit := start(ctx, t, c.task)
	for i, want := range []struct{ command, has string }{
		{"ip addr show dev eth0", "mtu 1400"}, {"ip addr show dev eth0", "10.87.0.2/24"},
		{"ip addr show dev eth1", "mtu 1401"}, {"ip addr show dev eth1", "10.87.1.2/24"},
		{"ip route", "10.100.0.0/16 via 10.87.0.1 dev eth0"}, {"ip route", "10.101.0.0/16 via 10.87.1.1 dev eth1"},
		{"ping -c 1 -W 5 10.87.0.1", "1 packets received"}, {"ping -c 1 -W 5 10.87.1.1", "1 packets received"},
	} {
		if out, code := c.exec1(ctx, t, fmt.Sprintf("look%d", i), nil, "sh", "-c", want.command); code != 0 || !strings.Contains(out, want.has) {
			t.Errorf("%s: status %d, no %q in\n%s", want.command, code, want.has, out)
		}
	}
	for _, address := range []string{"10.87.0.2", "10.87.1.2"} {
		if got := must(n.Run(n.Command(ctx, "busybox", "ping", "-c", "1", "-W", "5", address)))(t); !strings.Contains(got, "1 packets received") {
			t.Errorf("from the node to %s: %s", address, got)
		}
	}
	plugin("DEL", 0)
	plugin("DEL", 1)
	kill(ctx, t, c.task, unix.SIGKILL)
	c.delete(ctx, t, status(ctx, t, exit))
}

// TestCtrCNI has ctr make the network. Where it looks for CNI is fixed, so it is
// given an /etc, /opt and /var/lib of its own, which nobody else sees.
func TestCtrCNI(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		config := filepath.Join(t.TempDir(), "10-net.conflist")
		text := strings.ReplaceAll(bridgeNetwork(7, 1400, `{"dst": "0.0.0.0/0"}`), "@DIR@", t.TempDir())
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctr := shared.Command(ctx, "ctr").Path
		script := `set -e
mount -t tmpfs tmpfs /etc; mount -t tmpfs tmpfs /opt; mount -t tmpfs tmpfs /var/lib
mkdir -p /etc/cni/net.d /opt/cni; cp "$1" /etc/cni/net.d/; ln -s "$2" /opt/cni/bin
shift 2; exec "$@"`
		out := must(shared.Run(shared.Command(ctx, "unshare", "--mount", "sh", "-c", script, "sh", config, filepath.Dir(ctr),
			ctr, "run", "--rm", "--cni", "--runtime", r.name, "--fifo-dir", shared.FIFODir(), image.Demo, identifier(t),
			"sh", "-c", "ip addr show dev eth0; ping -c 1 -W 5 10.88.7.1")))(t)
		for _, want := range []string{"mtu 1400", "inet 10.88.7.2/24", "1 packets received"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	})
}
