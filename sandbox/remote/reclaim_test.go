// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"berth/sandbox"
)

// What a shim has left of its pod is removed container by container, and the
// machine is looked for with the last of them alone.
func TestReclaim(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := share{filepath.Join(dir, "share")}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b"} {
		if err := s.add(id, []bind{{name: "0", source: dir}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	reclaimed := 0
	rt := New(Config{
		Host: sandbox.ThisKernel(nil), Share: s.dir,
		Reclaim: func(context.Context) error { reclaimed++; return nil },
	})
	for i, id := range []string{"a", "a", "b"} {
		if err := rt.Delete(t.Context(), id, true); !errdefs.IsNotFound(err) {
			t.Errorf("delete %s: %v", id, err)
		}
		if _, err := os.Stat(filepath.Join(s.mounts(), id)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", id, err)
		}
		if last := i == 2; reclaimed > 0 != last {
			t.Errorf("after %s the machine was looked for %d times", id, reclaimed)
		}
	}
	if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the share is left: %v", err)
	}
	if err := rt.Delete(t.Context(), "b", true); !errdefs.IsNotFound(err) {
		t.Errorf("once more: %v", err)
	}
}

// A reclaim that fails is tried again by whoever comes next.
func TestReclaimAgain(t *testing.T) {
	failure := errors.New("the machine does not die")
	rt := New(Config{
		Host: sandbox.ThisKernel(nil), Share: filepath.Join(t.TempDir(), "share"),
		Reclaim: func(context.Context) error { return failure },
	})
	for range 2 {
		if err := rt.Delete(t.Context(), "a", true); !errors.Is(err, failure) || errdefs.IsNotFound(err) {
			t.Errorf("delete: %v", err)
		}
	}
}
