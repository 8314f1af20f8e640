// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"berth/test/fakedriver"
)

// TestTreeIsMadeOnce has containers that want the same share a tree, made by
// many at once, and others have another.
func TestTreeIsMadeOnce(t *testing.T) {
	_, r := machine(t, fakedriver.Config{GPUs: 2})
	h := &Hook{Planner: Planner{Roots: r}, Namespace: "ns"}
	var all sync.WaitGroup
	for _, id := range []string{"a", "b", "c", "d"} {
		dir := bundle(t, container("1"))
		all.Go(func() {
			if err := create(t, h, dir, id); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	trees := func() []os.DirEntry {
		entries, err := os.ReadDir(filepath.Join(r.Run, "gpu/trees"))
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	if got := trees(); len(got) != 1 {
		t.Fatalf("trees: %v", got)
	}
	spec := container("2")
	spec.Annotations[AnnotationPrefix+"gpu-capabilities"] = "utility"
	if err := create(t, h, bundle(t, spec), "e"); err != nil {
		t.Fatal(err)
	}
	if got := trees(); len(got) != 2 {
		t.Errorf("trees: %v", got)
	}
}

// TestTreeAfterACrash has a shim be killed while it makes a tree: the next one
// takes away what it left.
func TestTreeAfterACrash(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "trees")
	half := tree{base: "/b", files: []string{"lib64/old"}}
	if err := errors.Join(os.MkdirAll(filepath.Join(parent, ".new"), 0o755), half.fill(filepath.Join(parent, ".new"))); err != nil {
		t.Fatal(err)
	}
	if err := (tree{base: "/b", files: []string{"lib64/a"}}).build(filepath.Join(parent, "key")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if libs, err := os.ReadDir(filepath.Join(parent, "key/lib64")); err != nil || len(libs) != 1 || libs[0].Name() != "a" {
		t.Errorf("the tree has %v, %v", libs, err)
	}
}

func TestTreeFails(t *testing.T) {
	dir := t.TempDir()
	parent := filepath.Join(dir, "trees")
	bad := tree{base: "/b", files: []string{"lib64/a"}, links: []Link{{Path: "lib64/a", Target: "b"}}}
	if err := bad.build(filepath.Join(parent, "key")); err == nil {
		t.Fatal("a file and a link of one name")
	}
	if entries, _ := os.ReadDir(parent); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}
