// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"berth/test/e2e/conformance/daemon"
)

// testCgroups returns the cgroups that the upstream tests make, which name none
// in their specs: the runtime calls them after the container, and the vm shim
// those of its machines, in every hierarchy.
func testCgroups() map[string]bool {
	found := map[string]bool{}
	for _, pattern := range []string{
		"/sys/fs/cgroup/testshim-*", "/sys/fs/cgroup/*/testshim-*", "/sys/fs/cgroup/berth/testshim-*", "/sys/fs/cgroup/*/berth/testshim-*",
	} {
		paths, _ := filepath.Glob(pattern) // well formed
		for _, path := range paths {
			found[path] = true
		}
	}
	return found
}

// sweep ends and removes all that a case left and says in words what that was;
// "" if it was nothing. before is what testCgroups returned before it.
func sweep(dir string, before map[string]bool) (string, error) {
	var words []string
	var errs []error
	pids, err := daemon.Processes(dir)
	errs = append(errs, err)
	for _, pid := range pids {
		words = append(words, "process "+command(pid))
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	for _, pid := range pids {
		errs = append(errs, daemon.AwaitGone(pid))
	}
	mounts, err := daemon.Mounts(dir + "/")
	errs = append(errs, err)
	for i := len(mounts) - 1; i >= 0; i-- {
		words = append(words, "mount "+mounts[i])
		if err := syscall.Unmount(mounts[i], syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			errs = append(errs, err)
		}
	}
	cgroups := 0
	for path := range testCgroups() {
		// One that is busy belongs to somebody else's run.
		if !before[path] && os.Remove(path) == nil {
			cgroups++
		}
	}
	if cgroups > 0 {
		words = append(words, fmt.Sprintf("%d cgroup directories", cgroups))
	}
	errs = append(errs, os.RemoveAll(dir))
	return strings.Join(words, ", "), errors.Join(errs...)
}

func command(pid int) string {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return fmt.Sprint(pid)
	}
	fields := strings.Split(string(args), "\x00")
	return filepath.Base(fields[0])
}
