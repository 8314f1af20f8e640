// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"os"
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
	procs, err := ownProcs()
	if err != nil {
		t.Fatal(err)
	}
	if self := []byte(strconv.Itoa(os.Getpid())); !slices.ContainsFunc(bytes.Fields(read(procs)),
		func(pid []byte) bool { return bytes.Equal(pid, self) }) {
		t.Errorf("%s has not this process, %s", procs, self)
	}
	before := read("/proc/self/cgroup")
	if err := attachSelf(); err != nil {
		t.Error(err)
	}
	if after := read("/proc/self/cgroup"); !bytes.Equal(before, after) {
		t.Errorf("it was moved: from\n%sto\n%s", before, after)
	}
}
