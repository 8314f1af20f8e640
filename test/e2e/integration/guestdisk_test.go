// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

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
				mounts, err := os.ReadFile("/proc/self/mountinfo")
				if err != nil || bytes.Contains(mounts, []byte(n.Dir()+"/root")) || bytes.Contains(mounts, []byte("/dev/loop")) {
					t.Errorf("the host has mounted what is the guest's: %v\n%s", err, mounts)
				}
				if code := c.run(ctx, t); code != 0 {
					t.Errorf("status %d, %s", code, c.stderr)
				}
				if out := c.stdout.String(); !strings.HasPrefix(out, "kept\n") || !strings.Contains(out, root) {
					t.Errorf("output %q, want a root file system on %q", out, root)
				}
			})
		})
	}
}
