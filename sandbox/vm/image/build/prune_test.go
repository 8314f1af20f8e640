// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"berth/sandbox/vm/image"
)

// Only what the description does not name is removed, and only once nobody can
// be about to use it.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"vmlinux-1", "vmlinux-2", "initramfs-1", "initramfs-2", ".initramfs-3", ".description-4", "notes", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "vmlinux-dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if removed, err := Prune(dir, time.Now().Add(time.Hour)); err == nil || removed != nil {
		t.Errorf("without a description: %q, %v", removed, err)
	}
	if err := describe(dir, image.Image{Kernel: "vmlinux-2", Initramfs: "initramfs-1", Release: "6.1"}); err != nil {
		t.Fatal(err)
	}
	if removed, err := Prune(dir, time.Now()); err != nil || len(removed) > 0 {
		t.Errorf("too soon: %q, %v", removed, err)
	}
	removed, err := Prune(dir, time.Now().Add(pruneAge))
	want := []string{".description-4", ".initramfs-3", "initramfs-2", "vmlinux-1"}
	if err != nil || !slices.Equal(removed, want) {
		t.Errorf("removed %q, %v; want %q", removed, err, want)
	}
	entries, err := os.ReadDir(dir)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{".hidden", "image.json", "initramfs-1", "notes", "vmlinux-2", "vmlinux-dir"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left %q, %v", left, err)
	}
}
