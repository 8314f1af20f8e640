// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"
)

// TestGuestUserNamespace runs a pod with a user namespace (`hostUsers: false`)
// in a machine: its root is nobody's in the guest either, and owns its files,
// those of the CRI on the host too.
func TestGuestUserNamespace(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		pod := must(shared.RunUserPod(ctx, identifier(t), r.handler, nil, 100000, 65536))(t)
		t.Cleanup(func() {
			if err := pod.Remove(testContext(t, shared)); err != nil {
				t.Error(err)
			}
		})
		id := must(pod.Run(ctx, "c", "sleep", "1000"))(t)
		const script = "id -u; cat /proc/self/uid_map; stat -c %u /bin /etc/hostname /etc/resolv.conf; echo x > /root/new && stat -c %u /root/new; ls /sys/class/net"
		out := must(shared.Crictl(ctx, "exec", "--sync", id, "sh", "-c", script))(t)
		if got := strings.Join(strings.Fields(out), " "); !strings.HasPrefix(got, "0 0 100000 65536 0 0 0 0 ") || !strings.Contains(got, "eth0") {
			t.Errorf("in the container: %q", got)
		}
	})
}
