// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// makeCgroups makes the cgroup in every hierarchy that is mounted, and returns its
// directories. cpuset (v1) is left out: its cgroups take no process before they are set up.
func makeCgroups(path string) ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "cgroup" && f[2] != "cgroup2" || strings.Contains(f[3], "cpuset") {
			continue
		}
		dir := filepath.Join(f[1], path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			removeCgroups(dirs)
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// removeCgroups kills what is in the cgroups and removes them. What was killed leaves its
// cgroup only a little later and tells nobody (v1), hence the short waits.
func removeCgroups(dirs []string) {
	for _, dir := range dirs {
		for range 200 {
			procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for _, p := range strings.Fields(string(procs)) {
				var pid int
				if _, err := fmt.Sscan(p, &pid); err == nil {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			}
			if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}
