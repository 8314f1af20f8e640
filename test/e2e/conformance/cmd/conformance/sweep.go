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

// runName is in the name of each upstream test, and so in those of its cgroups:
// another run on this machine must not be taken for what this one left.
var runName = fmt.Sprint(os.Getpid())

// testCgroups returns the cgroups of the upstream tests of this run, which name none
// in their specs: the runtime calls them after the container, and the vm shim
// those of its machines, in every hierarchy.
func testCgroups() []string {
	var found []string
	for _, parent := range []string{"", "*/", "berth/", "*/berth/"} {
		paths, _ := filepath.Glob("/sys/fs/cgroup/" + parent + "testshim-" + runName + "-*") // well formed
		found = append(found, paths...)
	}
	return found
}

// sweep ends and removes all that a case left and says in words what that was;
// "" if it was nothing.
func sweep(dir string) (string, error) {
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
	cgroups := testCgroups()
	for _, path := range cgroups {
		if err := os.Remove(path); err != nil {
			errs = append(errs, err)
		}
	}
	if len(cgroups) > 0 {
		words = append(words, fmt.Sprintf("%d cgroup directories", len(cgroups)))
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
