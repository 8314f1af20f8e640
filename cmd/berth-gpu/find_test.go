// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/fakenvml"
)

// root makes a driver root from paths to what is there: "" for the fake library, "dir", "fifo",
// "-> target", or a file's text.
func root(t *testing.T, entries map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	lib, err := os.ReadFile(library)
	must(t, err)
	for name, what := range entries {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		target, isLink := strings.CutPrefix(what, "-> ")
		switch {
		case what == "":
			must(t, os.WriteFile(path, lib, 0o755))
		case what == "dir":
			must(t, os.Mkdir(path, 0o755))
		case what == "fifo":
			must(t, unix.Mkfifo(path, 0o600))
		case isLink:
			must(t, os.Symlink(target, path))
		default:
			must(t, os.WriteFile(path, []byte(what), 0o644))
		}
	}
	// Beside each library a state, so that the helper needs no environment at all.
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return fakenvml.Machine(fakenvml.T4, 1).Write(filepath.Join(filepath.Dir(path), fakenvml.StateFile))
	}))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDriverRoot(t *testing.T) {
	const name = fakenvml.SONAME
	outside := filepath.Dir(library)
	for _, c := range []struct {
		name    string
		entries map[string]string
		found   bool
	}{
		{"lib64", map[string]string{"usr/lib64/" + name: ""}, true},
		{"usr/lib", map[string]string{"usr/lib/" + name: ""}, true},
		{"a folder of one version", map[string]string{"usr/lib/nvidia-390/" + name: ""}, true},
		{"a link to the version", map[string]string{"usr/lib64/" + name: "-> libnvidia-ml.so.570", "usr/lib64/libnvidia-ml.so.570": ""}, true},
		{"absolute links below the root", map[string]string{"usr/lib64/" + name: "-> /etc/alternatives/nvml",
			"etc/alternatives/nvml": "-> /opt/" + name, "opt/" + name: ""}, true},
		{"a folder that is a link", map[string]string{"usr/lib/" + name: "", "lib": "-> usr/lib"}, true},
		{"after a folder that has only a FIFO", map[string]string{"usr/lib64/" + name: "fifo", "usr/lib/" + name: ""}, true},
		{"a link that leads out", map[string]string{"usr/lib64/" + name: "-> " + library}, false},
		{"a relative link that leads out", map[string]string{"usr/lib64/" + name: "-> ../../../../../../../../.." + library}, false},
		{"a folder that leads out", map[string]string{"usr/lib64": "-> " + outside}, false},
		{"a directory", map[string]string{"usr/lib64/" + name: "dir"}, false},
		{"nothing", map[string]string{"usr/lib64/libc.so.6": ""}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := root(t, c.entries)
			r := ask(t, nil, "list", "--driver-root", dir)
			if c.found && (r.list == nil || len(r.list.Devices) != 1) {
				t.Errorf("exit status %d: %s", r.code, r.stderr)
			}
			if !c.found && (r.failed == nil || r.failed.Code != "ERROR_LIBRARY_NOT_FOUND" || !strings.Contains(r.stderr, dir)) {
				t.Errorf("exit status %d: %+v: %s", r.code, r.failed, r.stderr)
			}
		})
	}
}

func TestLibraryThatIsNone(t *testing.T) {
	dir := root(t, map[string]string{"dir": "dir", "fifo": "fifo", "garbage": "not ELF", "empty": " ", "link": "-> gone"})
	for _, name := range []string{"dir", "fifo", "garbage", "empty", "link", "gone"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			r := ask(t, nil, "list", "--library", path)
			if r.code != 1 || r.failed == nil || r.failed.Code != "ERROR_LIBRARY_NOT_FOUND" || !strings.Contains(r.failed.Message, path) {
				t.Errorf("exit status %d: %+v: %s", r.code, r.failed, r.stderr)
			}
		})
	}
	// A library of something else.
	r := ask(t, nil, "list", "--library", libc(t))
	if r.code != 1 || r.failed == nil || r.failed.Code != "ERROR_FUNCTION_NOT_FOUND" {
		t.Errorf("libc: exit status %d: %+v", r.code, r.failed)
	}
}

func libc(t *testing.T) string {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	must(t, err)
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i > 0 && strings.Contains(line, "libc.so") {
			return strings.TrimSpace(line[i:])
		}
	}
	t.Skip("this test is not linked with glibc")
	return ""
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{}, {"mig"}, {"list", "extra"}, {"list", "--nonsense"}, {"list", "--library", "libnvidia-ml.so.1"},
		{"list", "--driver-root", "relative"}, {"list", "--library", "/a", "--driver-root", "/b"},
	} {
		if r := ask(t, nil, args...); r.code != 2 || !strings.Contains(r.stderr, "usage:") || r.failed != nil {
			t.Errorf("%q: exit status %d: %s", args, r.code, r.stderr)
		}
	}
}
