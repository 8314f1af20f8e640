// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"berth/test/e2e/node"
)

// TestTemplate has a pod that boots, and others that are made of the template that
// the first had made: they have their networks, which are not the template's, and
// nothing at random in common.
func TestTemplate(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{
			VM: "template = \"copy\"\n",
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
			before := time.Now().Unix() - 1 // what was set was on its way for a moment
			if _, err := fmt.Sscan(sh(c, "date +%s"), &sec); err != nil || sec < before || sec > time.Now().Unix() {
				t.Errorf("%s has the time %v (%v)", name, time.Unix(sec, 0), err)
			}
		}
	})
}
