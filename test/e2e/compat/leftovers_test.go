// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// takeApart ends containerd, removes everything, and reports what should have been gone.
// After a failure that is to be expected, and not reported.
func (h *host) takeApart(t *testing.T) {
	t.Helper()
	if t.Failed() {
		t.Log(h.logTail())
		h.leak = func(string, ...any) {}
	} else {
		h.leak = t.Errorf
	}
	if h.cmd != nil {
		if out, code, _ := h.try(t, "ctr", "containers", "ls", "-q"); code == 0 && strings.TrimSpace(out) != "" {
			h.leak("left behind: containers %q", strings.Fields(out))
		}
	}
	// A shim that was told to shut down does so after its answer.
	deadline := time.Now().Add(10 * time.Second)
	for len(h.processes()) > 0 && time.Now().Before(deadline) {
		<-time.After(10 * time.Millisecond)
	}
	h.stop(t, unix.SIGTERM)
	for pid, command := range h.processes() {
		h.leak("left behind: process %d %s", pid, command)
		_ = unix.Kill(pid, unix.SIGKILL)
		for deadline := time.Now().Add(10 * time.Second); h.processes()[pid] != "" && time.Now().Before(deadline); {
			<-time.After(10 * time.Millisecond)
		}
	}
	h.removeMounts(t)
	h.removeCgroups(t)
	h.removeFiles(t)
}

// processes are those that carry the host's id, other than containerd.
func (h *host) processes() map[int]string {
	found := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || h.cmd != nil && pid == h.cmd.Process.Pid {
			continue
		}
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if end := bytes.LastIndexByte(stat, ')'); end < 0 || end+2 >= len(stat) || stat[end+2] == 'Z' {
			continue
		}
		for _, file := range []string{"cmdline", "environ", "cgroup"} {
			if content, err := os.ReadFile(filepath.Join("/proc", e.Name(), file)); err == nil && bytes.Contains(content, []byte(h.id)) {
				command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
				found[pid] = strings.ReplaceAll(string(command), "\x00", " ") + " "
				break
			}
		}
	}
	return found
}

func (h *host) removeMounts(t *testing.T) {
	t.Helper()
	mounts := mountPoints(t)
	for i := len(mounts) - 1; i >= 0; i-- {
		if strings.HasPrefix(mounts[i].point, h.dir+"/") {
			h.leak("left behind: mount %s", mounts[i].point)
			_ = unix.Unmount(mounts[i].point, unix.MNT_DETACH)
		}
	}
}

// removeCgroups removes the host's parent cgroups; one below them is a leak.
func (h *host) removeCgroups(t *testing.T) {
	t.Helper()
	for _, m := range mountPoints(t) {
		if m.kind != "cgroup" && m.kind != "cgroup2" {
			continue
		}
		parent := filepath.Join(m.point, h.id)
		below, _ := filepath.Glob(filepath.Join(parent, "*", "cgroup.procs"))
		for _, b := range below {
			h.leak("left behind: cgroup %s", filepath.Dir(b))
			_ = unix.Rmdir(filepath.Dir(b))
		}
		// The kernel says busy until the last process has left altogether.
		err := unix.Rmdir(parent)
		for deadline := time.Now().Add(5 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); err = unix.Rmdir(parent) {
			<-time.After(time.Millisecond)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			t.Errorf("remove cgroup %s: %v", parent, err)
		}
	}
}

func (h *host) removeFiles(t *testing.T) {
	t.Helper()
	var left []string
	for _, pattern := range []string{
		filepath.Join(h.dir, "state/io.containerd.runtime.v2.task/*/*"),
		filepath.Join(h.dir, "root/io.containerd.runtime.v2.task/*/*"),
		filepath.Join(h.dir, "fifo/*"),
		filepath.Join(h.dir, "runc/*/*"),
		filepath.Join("/run/containerd/runc", h.id, "*"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Error(err)
		}
		left = append(left, found...)
	}
	// Beside a socket lies what serves it; see docs/operations.md.
	served, err := filepath.Glob("/run/containerd/s/*.json")
	if err != nil {
		t.Error(err)
	}
	for _, file := range served {
		if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(`"`+h.id+`"`)) {
			h.sockets[strings.TrimSuffix(file, ".json")] = true
		}
	}
	for socket := range h.sockets {
		found, err := filepath.Glob(socket + "*")
		if err != nil {
			t.Error(err)
		}
		left = append(left, found...)
	}
	for _, path := range left {
		h.leak("left behind: %s", path)
		_ = os.RemoveAll(path)
	}
	for _, path := range []string{filepath.Join("/run/containerd/runc", h.id), h.dir} {
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	}
}

type mountPoint struct{ point, kind string }

// mountPoints reads this process's mountinfo; see proc_pid_mountinfo(5).
func mountPoints(t *testing.T) []mountPoint {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var points []mountPoint
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if len(fields) > 4 && len(types) > 0 {
			points = append(points, mountPoint{fields[4], types[0]})
		}
	}
	return points
}
