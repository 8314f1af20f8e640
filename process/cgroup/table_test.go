// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// The table is read once, and anew when a hierarchy comes, or goes from its place.
func TestTable(t *testing.T) {
	get := func(of *table, wantReads int, why string) []mount {
		t.Helper()
		mounts, err := of.get(view{})
		if err != nil {
			t.Fatal(err)
		}
		if of.reads != wantReads {
			t.Errorf("%s: read %d times, want %d", why, of.reads, wantReads)
		}
		return mounts
	}
	var kept table
	first := get(&kept, 1, "at first")
	if len(first) == 0 {
		t.Skip("no cgroup is mounted here")
	}
	get(&kept, 1, "again")

	dir := t.TempDir()
	if err := unix.Mount(first[0].point, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	defer unmount()
	var second table
	there := func(m mount) bool { return m.point == dir }
	if !slices.ContainsFunc(get(&second, 1, "with one more"), there) {
		t.Error("a mount of a hierarchy is not seen")
	}
	unmount()
	if slices.ContainsFunc(get(&second, 2, "after one has gone"), there) {
		t.Error("a mount that has gone is still there")
	}

	kept.hierarchies = "1:none\n"
	get(&kept, 2, "with other hierarchies")
}

func TestHierarchies(t *testing.T) {
	a := hierarchies("4:memory:/a\n1:name=systemd:/b:c\n0::/\n")
	if b := hierarchies("4:memory:/\n1:name=systemd:/x\n0::/y\n"); a != b {
		t.Errorf("a move to another cgroup changes %q to %q", a, b)
	}
	if b := hierarchies("5:cpu:/\n4:memory:/\n1:name=systemd:/\n0::/\n"); a == b {
		t.Errorf("a hierarchy that has come changes nothing in %q", a)
	}
}
