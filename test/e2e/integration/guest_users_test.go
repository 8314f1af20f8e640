// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"strings"
	"testing"

	"berth/test/e2e/node"
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

// TestGuestUserMemoryVolume gives the containers of such a pod an emptyDir in memory,
// with its ids mapped, as kubelet does: it is the guest's, and theirs as if it were mapped.
func TestGuestUserMemoryVolume(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		dir := kubeletDir(t)
		pod := must(shared.RunUserPod(ctx, identifier(t), r.handler, nil, 100000, 65536))(t)
		t.Cleanup(func() {
			if err := pod.Remove(testContext(t, shared)); err != nil {
				t.Error(err)
			}
		})
		cache := memoryVolume(t, dir, "cache", "4m")
		run := func(name, source string) string {
			ids := []node.IDMapping{{HostID: 100000, Length: 65536}}
			return must(pod.RunWith(ctx, name, node.ContainerOptions{
				Mounts: []node.Mount{{HostPath: source, ContainerPath: "/cache", UIDMappings: ids, GIDMappings: ids}},
			}, idle...))(t)
		}
		writer := run("writer", cache)
		const script = "grep -o 'tmpfs /cache tmpfs' /proc/mounts; stat -c '%a %u:%g' /cache; mkdir /cache/sub; echo x > /cache/sub/file; stat -c %u:%g /cache/sub/file"
		if got := inPod(t, writer, script); got != "tmpfs /cache tmpfs\n2777 0:2000\n0:2000\n" {
			t.Errorf("the volume is %q", got)
		}
		part := run("part", subPath(t, dir, cache, "sub"))
		if got := inPod(t, part, "cat /cache/file; echo y > /cache/file && echo written"); got != "x\nwritten\n" {
			t.Errorf("the other container: %q", got)
		}
		made := run("made", subPath(t, dir, cache, "new"))
		if got := inPod(t, made, "stat -c '%u:%g' /cache; echo z > /cache/file && echo written"); got != "0:2000\nwritten\n" {
			t.Errorf("a subPath that the guest made: %q", got)
		}
		if _, err := os.Stat(cache + "/sub/file"); err == nil {
			t.Error("the host's volume has what was written")
		}
	})
}
