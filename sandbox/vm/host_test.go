// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// descriptorsOf are what a process has open.
func descriptorsOf(t *testing.T, pid int) (what []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			what = append(what, link)
		}
	}
	return what
}

// statusOf is a field of /proc/PID/status.
func statusOf(t *testing.T, pid int, field string) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("process %d has no %s", pid, field)
	return ""
}

// shared is a directory on a shared mount, as the shim would have one.
func shared(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("share", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the share: %v", err)
		}
	})
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// capabilities is a set of a process's (capabilities(7)).
func capabilities(t *testing.T, pid int, set string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(statusOf(t, pid, set), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func namespaceOf(t *testing.T, pid int, name string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

type mounted struct{ point, options, source string }

// mountsOf are the mounts that a process sees (proc_pid_mountinfo(5)).
func mountsOf(t *testing.T, pid int) (all []mounted) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		f, fs := strings.Fields(before), strings.Fields(after)
		all = append(all, mounted{f[4], f[5], fs[1]})
	}
	return all
}
