// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"

	"berth/test/e2e/node"
)

// TestGuestDisks runs containers whose snapshotter has disks. The guest mounts
// them, and the host, which makes them when it unpacks the image, does not.
func TestGuestDisks(t *testing.T) {
	for snapshotter, root := range map[string]string{"blockfile": "/ ext4 ", "erofs": "/ overlay "} {
		t.Run(snapshotter, func(t *testing.T) {
			eachGuest(t, func(t *testing.T, r runtimeCase) {
				if _, err := exec.LookPath("mkfs.erofs"); err != nil && snapshotter == "erofs" {
					t.Skip("no mkfs.erofs: apt-get install erofs-utils")
				}
				n := ownNode(t, node.Config{Snapshotter: snapshotter})
				ctx := testContext(t, n)
				c := create(ctx, t, n, r, request{args: []string{"sh", "-c", "echo kept > /file && cat /file && grep ' / ' /proc/mounts"}})
				shim, _ := parentAndName(int(c.task.Pid()))
				notMounted(t, n, "self", fmt.Sprint(shim))
				if code := c.run(ctx, t); code != 0 {
					t.Errorf("status %d, %s", code, c.stderr)
				}
				if out := c.stdout.String(); !strings.HasPrefix(out, "kept\n") || !strings.Contains(out, root) {
					t.Errorf("output %q, want a root file system on %q", out, root)
				}
				// A pod's later containers come without another `start` of the shim, and share layers.
				pod := runPod(ctx, t, n, identifier(t), r)
				for _, name := range []string{"one", "two"} {
					id := must(pod.Run(ctx, name, idle...))(t)
					if out := must(n.Crictl(ctx, "exec", id, "grep", " / ", "/proc/mounts"))(t); !strings.Contains(out, root) {
						t.Errorf("%s of a pod: %q, want a root file system on %q", name, out, root)
					}
				}
			})
		})
	}
}

// notMounted checks that no image of a node is mounted where a process is.
func notMounted(t *testing.T, n *node.Node, processes ...string) {
	t.Helper()
	for _, p := range processes {
		mounts, err := os.ReadFile(filepath.Join("/proc", p, "mountinfo"))
		if err != nil || bytes.Contains(mounts, []byte(n.Dir()+"/root")) || bytes.Contains(mounts, []byte(" /dev/loop")) {
			t.Errorf("the host has mounted what is the guest's (process %s): %v\n%s", p, err, mounts)
		}
	}
}

// TestGuestPassthrough asks for a device that is none to pass through.
func TestGuestPassthrough(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		says := "no VFIO group"
		if groups, _ := os.ReadDir("/sys/kernel/iommu_groups"); len(groups) == 0 {
			says = "this host has no IOMMU"
		}
		ctx := testContext(t, shared)
		_, err := tryCreate(ctx, t, shared, r, request{args: idle, spec: []oci.SpecOpts{oci.WithDevices("/dev/null", "/dev/vfio/12", "rwm")}})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "/dev/vfio/12 (c 1:3)") {
			t.Errorf("create: %v, want %q", err, says)
		}
	})
}
