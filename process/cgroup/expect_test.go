// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// What the kernel is told of is an attach, and moves nobody.
func TestAttachSelf(t *testing.T) {
	read := func(path string) []byte {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	own, err := openOwn()
	if err != nil {
		t.Fatal(err)
	}
	procs := own.Name()
	if err := own.Close(); err != nil {
		t.Error(err)
	}
	if self := []byte(strconv.Itoa(os.Getpid())); !slices.ContainsFunc(bytes.Fields(read(procs)),
		func(pid []byte) bool { return bytes.Equal(pid, self) }) {
		t.Errorf("%s has not this process, %s", procs, self)
	}
	stays := func() {
		t.Helper()
		before := read("/proc/self/cgroup")
		if err := attachSelf(); err != nil {
			t.Error(err)
		}
		if after := read("/proc/self/cgroup"); !bytes.Equal(before, after) {
			t.Errorf("it was moved: from\n%sto\n%s", before, after)
		}
	}
	stays()

	// Whoever has moved it meanwhile has the last word.
	home, err := selfLocation()
	if err != nil {
		t.Fatal(err)
	}
	newGroup(t, all).add(os.Getpid(), "")
	stays()
	stays()
	for _, dir := range home.Dirs {
		if err := os.WriteFile(filepath.Join(dir.Path, "cgroup.procs"), []byte("0"), 0); err != nil {
			t.Error(err)
		}
	}
	stays()
}
