// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var capabilitySets = []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}

// threadsConfined checks what each thread of a process has, but for those that are
// passed over: a filter that is on one of them alone is none (CVE-2018-15746). may
// are capabilities that it may use.
func threadsConfined(t *testing.T, pid int, may uint64, over ...int) {
	t.Helper()
	threads := threadsOf(t, pid)
	if len(threads) < 2 {
		t.Fatalf("process %d has the threads %v", pid, threads)
	}
	for _, tid := range threads {
		if slices.Contains(over, tid) {
			continue
		}
		for field, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
			if got := statusOf(t, tid, field); got != want {
				t.Errorf("%s of thread %d is %s, want %s", field, tid, got, want)
			}
		}
		for _, set := range capabilitySets {
			allowed := may
			if set != "CapEff" && set != "CapPrm" {
				allowed = 0 // what it has is nothing that a program could inherit
			}
			if caps := capabilities(t, tid, set); caps&^allowed != 0 {
				t.Errorf("%s of thread %d has %#x", set, tid, caps&^allowed)
			}
		}
	}
}

func threadsOf(t *testing.T, pid int) (tids []int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		tids = append(tids, tid)
	}
	return tids
}

// descriptorsKnown checks that a process has open nothing but sockets that are
// connected, what it waits by, and what is of the patterns.
func descriptorsKnown(t *testing.T, pid int, patterns ...string) {
	t.Helper()
	all := descriptorsOf(t, pid)
	if len(all) < 5 {
		t.Fatalf("process %d has %q open", pid, all)
	}
	connected := connectedSockets(t)
	for _, fd := range all {
		inode, socket := strings.CutPrefix(fd, "socket:[")
		switch {
		case socket && slices.Contains(connected, strings.TrimSuffix(inode, "]")):
		case strings.HasPrefix(fd, "anon_inode:[event"), fd == "anon_inode:[signalfd]":
		case slices.ContainsFunc(patterns, func(p string) bool { return regexp.MustCompile(p).MatchString(fd) }):
		default:
			t.Errorf("process %d has %s open", pid, fd)
		}
	}
}

// connectedSockets are those of AF_UNIX that have their one other end, by their
// inodes: nobody else can connect to them.
func connectedSockets(t *testing.T) (inodes []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/thread-self/net/unix") // the first thread may be elsewhere for good
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) >= 7 && f[5] == "03" { // SS_CONNECTED (include/uapi/linux/net.h)
			inodes = append(inodes, f[6])
		}
	}
	return inodes
}

// commandOf is the command line of a process, without its name.
func commandOf(t *testing.T, pid int) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")[1:]
}
