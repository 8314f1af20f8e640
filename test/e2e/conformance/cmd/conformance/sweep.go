// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"berth/test/e2e/conformance/daemon"
)

// caseCgroups returns the cgroups of the case of the name, and who is in them.
// The upstream tests name none in their specs: the runtime calls them after the
// container, and the vm shim those of its machines. Those of the own tests are
// below that of the daemon.
func caseCgroups(name string) (cgroups []string, members []int, err error) {
	for _, pattern := range []string{"testshim-" + name + "-*", "berth/testshim-" + name + "-*", name + "-*"} {
		paths, pids, lookErr := daemon.Cgroups(pattern)
		cgroups, members, err = append(cgroups, paths...), append(members, pids...), errors.Join(err, lookErr)
	}
	return cgroups, members, err
}

// sweep ends and removes all that a case left and says in words what that was;
// "" if it was nothing. dir is the case's, and has its name.
func sweep(dir string) (string, error) {
	var words []string
	var errs []error
	pids, err := daemon.Processes(dir + "/")
	errs = append(errs, err)
	cgroups, members, err := caseCgroups(filepath.Base(dir))
	errs = append(errs, err)
	slices.Sort(members) // each is in a cgroup of every hierarchy
	for _, pid := range slices.Compact(members) {
		if !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
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
	left, busy := 0, 0
	for _, path := range cgroups {
		switch err := os.Remove(path); {
		case errors.Is(err, syscall.ENOENT):
			continue // by another name of the hierarchy, or by whoever was ending
		case errors.Is(err, syscall.EBUSY):
			busy++
		case err != nil:
			errs = append(errs, err)
		}
		left++
	}
	if left > 0 {
		words = append(words, fmt.Sprintf("%d cgroup directories, %d of them in use", left, busy))
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
