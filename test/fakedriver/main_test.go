// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// smi is the nvidia-smi that tests install: built once.
func smi(t *testing.T) string {
	t.Helper()
	bin, err := BuildSMI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("no root: device nodes cannot be made")
	}
}

func build(t testing.TB, cfg Config) *Driver {
	t.Helper()
	needRoot(t)
	d, err := Build(filepath.Join(t.TempDir(), "root"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(d.Root); !os.IsNotExist(err) {
			t.Errorf("after Close, %s: %v", d.Root, err)
		}
	})
	return d
}

// read is a file of the machine, without the newline at its end.
func read(t *testing.T, d *Driver, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.Root, path))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(data), "\n")
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// links are the symbolic links below a directory of the machine, with their targets.
func links(t *testing.T, d *Driver, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(d.Root, dir), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type()&fs.ModeSymlink != 0 {
			out[path], err = os.Readlink(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	slices.Sort(out)
	return out
}
