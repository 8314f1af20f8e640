// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tmpfsAt mounts one for the time of a test.
func tmpfsAt(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: nothing can be mounted")
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("test", dir, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

func isMounted(t *testing.T, dir string) bool {
	t.Helper()
	points, err := mountsBelow(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(points) > 0
}

// All that is mounted in a container's part of the share goes, inner mounts
// first, and nothing of another's.
func TestUnmountShare(t *testing.T) {
	dir := t.TempDir()
	for _, point := range []string{"c/0", "c/0/with blanks", "c/1", "cc/0"} {
		tmpfsAt(t, filepath.Join(dir, point))
	}
	s := &server{cfg: Config{Share: dir}}
	for range 2 {
		if err := s.unmountShare("c"); err != nil {
			t.Error(err)
		}
	}
	if isMounted(t, filepath.Join(dir, "c")) || !isMounted(t, filepath.Join(dir, "cc")) {
		t.Error("something is left, or another container's has gone")
	}
}

// A container that puts a link in the place of a directory of its volume, or of
// a mount point, does not have the agent unmount what that leads to (CVE-2020-2024).
func TestUnmountFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	tmpfsAt(t, filepath.Join(dir, "guests/late"))
	volume := filepath.Join(dir, "volume")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(volume, "plain/late"), 0o755),
		os.Symlink(filepath.Join(dir, "guests"), filepath.Join(volume, "dir")),
		os.Symlink(filepath.Join(dir, "guests/late"), filepath.Join(volume, "late")),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dir/late", "late"} {
		if err := unmountAt(filepath.Join(volume, name)); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"plain/late", "missing"} {
		if err := unmountAt(filepath.Join(volume, name)); err != nil {
			t.Errorf("%s, where nothing is mounted: %v", name, err)
		}
	}
	if !isMounted(t, filepath.Join(dir, "guests/late")) {
		t.Error("a mount of the guest's own was unmounted")
	}
	// Without a link on the way it would be.
	if err := unmountAt(filepath.Join(dir, "guests/late")); err != nil || isMounted(t, filepath.Join(dir, "guests/late")) {
		t.Errorf("it is still mounted: %v", err)
	}
}
