// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"berth/test/e2e/node"
)

// pidOf is the keeper's in what berth says.
func pidOf(t *testing.T, out string) (pid int) {
	t.Helper()
	_, last, _ := strings.Cut(out, "kept by process ")
	if _, err := fmt.Sscan(last, &pid); err != nil {
		t.Fatalf("no pid in %q: %v", out, err)
	}
	return pid
}

// TestTemplate has a pod that boots, and others that are made of the template that
// the first had made: they have their networks, which are not the template's, and
// nothing at random in common.
func TestTemplate(t *testing.T) {
	for _, mode := range []string{"copy", "cow"} {
		t.Run(mode, func(t *testing.T) { testTemplate(t, mode) })
	}
}

func testTemplate(t *testing.T, mode string) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{
			VM: fmt.Sprintf("template = %q\n", mode),
			Networks: []string{
				bridgeNetwork(1, 1400, `{"dst": "0.0.0.0/0"}, {"dst": "::/0"}`),
				bridgeNetwork(2, 9000, `{"dst": "10.99.0.0/16", "gw": "10.88.2.1"}`),
			},
		})
		ctx := testContext(t, n)
		templates := func(words ...string) string {
			t.Helper()
			out := must(n.Run(n.Command(ctx, "berth", append([]string{"guest", "templates"}, words...)...)))(t)
			t.Log(out)
			return out
		}
		cold := must(runPod(ctx, t, n, "cold", r).Run(ctx, "a", idle...))(t)
		if out := templates("wait"); !strings.Contains(out, "ready") {
			t.Fatal("there is no template after the first pod")
		}
		keeper := pidOf(t, templates())
		for _, ns := range []string{"mnt", "net"} {
			own := must(os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", keeper, ns)))(t)
			if host := must(os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", n.Pid(), ns)))(t); own != host {
				t.Errorf("the keeper is in the %s namespace %s, containerd in %s: it keeps the pod's", ns, own, host)
			}
		}
		if groups := must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", keeper)))(t); !strings.Contains(string(groups), ":/berth/templates\n") {
			t.Errorf("the keeper is in the cgroups\n%s", groups)
		}
		begin := time.Now()
		first := must(runPod(ctx, t, n, "first", r).Run(ctx, "b", idle...))(t)
		t.Logf("a pod and its container run after %v", time.Since(begin))
		second := must(runPod(ctx, t, n, "second", r).Run(ctx, "c", idle...))(t)
		if out := templates(); !strings.Contains(out, " 2 ") {
			t.Errorf("the two pods are no clones")
		}

		sh := func(container, script string) string {
			t.Helper()
			return must(n.Crictl(ctx, "exec", container, "sh", "-c", script))(t)
		}
		for _, iface := range []struct{ name, prefix string }{{"eth0", "10.88.1."}, {"eth1", "10.88.2."}, {"eth0", "fd00:88:1::"}} {
			of := address(t, sh(second, "ip -o addr show dev "+iface.name), iface.prefix)
			for _, from := range []string{cold, first} {
				sh(from, fmt.Sprintf("ping -c 1 -W 5 -s 1000 %s", of))
			}
		}
		seen := make(map[string]string)
		for name, c := range map[string]string{"first": first, "second": second} {
			for _, what := range []string{
				"cat /proc/sys/kernel/random/boot_id", "cat /proc/sys/kernel/random/uuid", "head -c 32 /dev/urandom | md5sum",
				"cat /sys/class/net/eth0/address", "hostname",
			} {
				value := sh(c, what)
				if other, ok := seen[value]; ok {
					t.Errorf("%q is %q in %s and in %s", what, value, name, other)
				}
				seen[value] = name
			}
			var sec int64
			before := begin.Unix() // of both: what was set was on its way for as long as the guest had no CPU
			if _, err := fmt.Sscan(sh(c, "date +%s"), &sec); err != nil || sec < before || sec > time.Now().Unix() {
				t.Errorf("%s has the time %v (%v)", name, time.Unix(sec, 0), err)
			}
		}
	})
}
