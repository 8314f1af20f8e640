// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

// secured starts a node whose CRI uses this security module of the kernel's.
func secured(t *testing.T, module, rootLabel string) *node.Node {
	t.Helper()
	if os.Getenv("BERTH_LSM") != module {
		t.Skipf("BERTH_LSM does not name %s: no kernel that containerd may load profiles into", module)
	}
	return ownNode(t, node.Config{Secured: true, RootLabel: rootLabel})
}

// label is what /proc says of a process.
func label(t *testing.T, pid int) string {
	t.Helper()
	data := must(os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", pid)))(t)
	return strings.Trim(string(data), "\x00\n")
}

// execLabel is what an exec in a container is told of itself.
func execLabel(ctx context.Context, t *testing.T, n *node.Node, id string) string {
	t.Helper()
	return strings.Trim(must(n.Crictl(ctx, "exec", "--sync", id, "cat", "/proc/self/attr/current"))(t), "\x00\n")
}

// Containers of a pod are under the profiles that the CRI asks for, of which it loads
// the default one itself; execs are too.
func TestAppArmorOfPods(t *testing.T) {
	n := secured(t, "apparmor", "")
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, n)
		pod := runPod(ctx, t, n, identifier(t), r)
		for _, c := range []struct {
			name    string
			profile map[string]any
			want    string
		}{
			{"default", map[string]any{"profile_type": 0}, "cri-containerd.apparmor.d (enforce)"},
			{"unconfined", map[string]any{"profile_type": 1}, "unconfined"},
			{"local", map[string]any{"profile_type": 2, "localhost_ref": "berth-pods"}, "berth-pods (enforce)"},
		} {
			id := must(pod.RunWith(ctx, c.name, node.ContainerOptions{Security: map[string]any{"apparmor": c.profile}}, idle...))(t)
			if got := label(t, inspect(ctx, t, n, id).Info.Pid); got != c.want {
				t.Errorf("%s: the init is under %q, want %q", c.name, got, c.want)
			}
			if got := execLabel(ctx, t, n, id); got != c.want {
				t.Errorf("%s: an exec is under %q, want %q", c.name, got, c.want)
			}
		}
		missing := map[string]any{"profile_type": 2, "localhost_ref": "berth-missing"}
		if _, err := pod.RunWith(ctx, "missing", node.ContainerOptions{Security: map[string]any{"apparmor": missing}}, idle...); err == nil {
			t.Error("a profile that is not loaded is not refused")
		}
	})
}

// Containers of a pod have the label that the CRI asks for, or that of their pod, and
// so have their execs and their root file system, which is mounted with it.
func TestSELinuxOfPods(t *testing.T) {
	n := secured(t, "selinux", "system_u:object_r:container_ro_file_t:s0")
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, n)
		pod := runPod(ctx, t, n, identifier(t), r)
		podLevel := ""
		for _, c := range []struct {
			name    string
			options map[string]any
			kind    string
			level   string // empty: what the CRI has chosen for the pod
		}{
			{"one", nil, "container_t", ""},
			{"two", nil, "container_t", ""},
			{"own", map[string]any{"user": "system_u", "role": "system_r", "type": "container_init_t", "level": "s0:c1,c2"}, "container_init_t", "s0:c1,c2"},
		} {
			id := must(pod.RunWith(ctx, c.name, node.ContainerOptions{Security: map[string]any{"selinux_options": c.options}}, idle...))(t)
			pid := inspect(ctx, t, n, id).Info.Pid
			got := label(t, pid)
			level, is := strings.CutPrefix(got, "system_u:system_r:"+c.kind+":")
			if podLevel == "" {
				podLevel = level
			}
			if c.level == "" {
				c.level = podLevel
			}
			if !is || level != c.level || !strings.Contains(level, ":c") {
				t.Errorf("%s: the init is labelled %q, want %s and %q", c.name, got, c.kind, c.level)
			}
			if exec := execLabel(ctx, t, n, id); exec != got {
				t.Errorf("%s: an exec is labelled %q, the init %q", c.name, exec, got)
			}
			file := make([]byte, 128)
			size := must(unix.Getxattr(fmt.Sprintf("/proc/%d/root/bin", pid), "security.selinux", file))(t)
			if got, want := strings.TrimRight(string(file[:size]), "\x00"), "system_u:object_r:container_file_t:"+c.level; got != want {
				t.Errorf("%s: its files are labelled %q, want %q", c.name, got, want)
			}
		}
	})
}
