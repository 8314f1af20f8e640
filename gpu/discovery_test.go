// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"os"
	"path/filepath"
	"testing"

	"berth/test/fakedriver"
)

// machine builds a fake machine and says where it is.
func machine(t testing.TB, cfg fakedriver.Config) (*fakedriver.Driver, Roots) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root, to make device nodes")
	}
	// A machine is hundreds of small files: a tmpfs makes it many times faster.
	dir, err := os.MkdirTemp("/dev/shm", "berth-gpu-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d, err := fakedriver.Build(filepath.Join(dir, "driver"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, Roots{Driver: d.Root, Dev: d.Dev, Proc: d.Proc, Sys: d.Sys, Run: filepath.Join(t.TempDir(), "berth")}
}

func discover(t testing.TB, r Roots) *Inventory {
	t.Helper()
	inv, err := Discover(r)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
