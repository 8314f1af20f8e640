// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// maxDepth bounds the descent into cgroups that the container made, one
// descriptor a level.
const maxDepth = 512

// membershipOrder lists the v1 hierarchies in the order in which they are asked
// who belongs to the container: the freezer first, because a kill freezes it;
// then those that each runtime joins.
var membershipOrder = [...]string{
	"freezer", "pids", "devices", "memory", "name=systemd", "cpu", "cpuacct", "cpuset", "blkio",
	"perf_event", "net_cls", "net_prio", "hugetlb", "rdma", "misc",
}

// own reports whether controller's directory holds the container's processes
// alone: it is not, and does not enclose, the caller's cgroup. The caller may
// have been moved since Open, and after Load is another process, so that its
// cgroups are passed fresh.
func (c *Cgroup) own(controller string, self Location) bool {
	dir, ok := c.loc.Dirs[controller]
	if !ok || dir.Shared {
		return false
	}
	mine, ok := self.Dirs[controller]
	return !ok || !encloses(dir.Path, mine.Path)
}

// members are the controllers whose directories say who is in the container:
// the unified one and one of v1, as far as they are the container's own.
func (c *Cgroup) members() ([]string, error) {
	self, err := c.view.locate("self", c.mounts)
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, err
	}
	var found []string
	if c.own(Unified, self) {
		found = append(found, Unified)
	}
	for _, controller := range membershipOrder {
		if c.own(controller, self) {
			found = append(found, controller)
			break
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the container has no cgroup of its own: it shares the shim's or a root cgroup; give it a cgroupsPath: %w", errdefs.ErrFailedPrecondition)
	}
	return found, nil
}

// Pids lists the processes in the cgroup and in all below it, ascending. The
// error is errdefs.ErrFailedPrecondition where the cgroup is not the
// container's own, and errdefs.ErrNotFound after Close. A removed cgroup has no
// processes. A process outside the caller's PID namespace is listed as 0.
func (c *Cgroup) Pids() ([]int, error) {
	if !c.acquire() {
		return nil, errClosed("list processes")
	}
	defer c.release()
	members, err := c.members()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return c.pids(members)
}

func (c *Cgroup) pids(members []string) ([]int, error) {
	var pids []int
	for _, controller := range members {
		err := walk(c.dirs[controller], func(dir int) error {
			var err error
			pids, err = appendProcs(pids, dir)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list processes of %q: %w", c.loc.Dirs[controller].Path, err)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// Empty reports whether no live process is in the cgroup or below it. Errors
// are those of Pids.
func (c *Cgroup) Empty() (bool, error) {
	pids, err := c.Pids()
	return err == nil && len(pids) == 0, err
}

// walk calls visit for dir and for each cgroup below it, parents first. What
// disappears meanwhile is passed over.
func walk(dir int, visit func(dir int) error) error { return walkDepth(dir, maxDepth, visit) }

func walkDepth(dir, depth int, visit func(dir int) error) error {
	if depth == 0 {
		return fmt.Errorf("cgroups are nested more than %d deep: %w", maxDepth, errdefs.ErrResourceExhausted)
	}
	if err := visit(dir); err != nil {
		return err
	}
	children, err := subdirs(dir)
	if err != nil {
		return err
	}
	for _, name := range children {
		child, err := unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if isGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		err = walkDepth(child, depth-1, visit)
		unix.Close(child)
		if err != nil {
			return err
		}
	}
	return nil
}

// subdirs lists the child cgroups; none of a removed one.
func subdirs(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "cgroup")
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil && !isGone(err) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, strings.Clone(e.Name()))
		}
	}
	return names, nil
}

// isGone tells the errors that a removed cgroup gives.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}

// appendProcs appends the pids of one cgroup.procs. The file is opened afresh:
// v1 serves a list made at the first read of an open file.
func appendProcs(pids []int, dir int) ([]int, error) {
	text, err := readIn(dir, "cgroup.procs")
	if isGone(err) || errors.Is(err, unix.EOPNOTSUPP) {
		// EOPNOTSUPP: a threaded cgroup, whose processes the domain above lists
		// (cgroup-v2.rst, "Threads").
		return pids, nil
	}
	if err != nil {
		return nil, err
	}
	return parsePids(pids, text), nil
}

// parsePids appends the numbers of a list, one a line.
func parsePids(pids []int, text []byte) []int {
	for len(text) > 0 {
		var line []byte
		line, text = nextLine(text)
		if pid, ok := parseUint(bytes.TrimSpace(line)); ok && pid < 1<<31 {
			pids = append(pids, int(pid))
		}
	}
	return pids
}

// readIn reads a whole control file of a cgroup directory.
func readIn(dir int, name string) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(f)
}
