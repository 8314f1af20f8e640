// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// defaultRuncRoot is where shims keep the runtime's state, one directory for each
// namespace, unless an option names another.
const defaultRuncRoot = "/run/containerd/runc"

// removeFiles removes what lies outside the node's directory, and reports files
// inside it that should have gone with their containers.
func (n *Node) removeFiles() error {
	var errs []error
	for _, pattern := range []string{
		"s/*",                         // shim sockets
		"fifo/*",                      // stdio of clients
		"runc/*/*",                    // runtime state of CRI's containers
		"state/netns/*",               // CNI
		"state/*.runtime.v2.task/*/*", // bundles
		"root/*.runtime.v2.task/*/*",
		"state/*.grpc.v1.cri/*/*", // stdio of CRI
		"vm/[^.]*/*",              // what pods share with guests, and notes of machines
	} {
		matches, err := filepath.Glob(filepath.Join(n.dir, pattern))
		if err != nil {
			return fmt.Errorf("list files: %w", err)
		}
		for _, m := range matches {
			errs = append(errs, &LeakError{"file", strings.TrimPrefix(m, n.dir+"/")})
		}
	}
	// Other namespaces of the node start with its id, and nobody else's: all ids are equally long.
	roots, err := filepath.Glob(filepath.Join(defaultRuncRoot, n.id+"*"))
	if err != nil {
		return fmt.Errorf("list runtime state: %w", err)
	}
	for _, root := range roots {
		entries, err := os.ReadDir(root)
		if err != nil {
			errs = append(errs, fmt.Errorf("list runtime state: %w", err))
		}
		for _, e := range entries {
			errs = append(errs, &LeakError{"file", filepath.Join(root, e.Name())})
		}
		if err := os.RemoveAll(root); err != nil {
			errs = append(errs, fmt.Errorf("remove runtime state: %w", err))
		}
	}
	return errors.Join(errs...)
}

// removeCgroups removes the node's parent cgroups; a cgroup below one is a leak, of
// whatever name: the CRI's scopes too, which say nothing of the node, lie in its slice.
func (n *Node) removeCgroups() error {
	hierarchies, err := cgroupMounts()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range hierarchies {
		parents, err := filepath.Glob(filepath.Join(h, n.id+"*"))
		if err != nil {
			return fmt.Errorf("list cgroups: %w", err)
		}
		slices, err := filepath.Glob(filepath.Join(h, "berth.slice", n.id+"*")) // which systemd has not removed
		if err != nil {
			return fmt.Errorf("list cgroups: %w", err)
		}
		parents = append(parents, slices...)
		for _, parent := range parents {
			var below []string
			err := filepath.WalkDir(parent, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					below = append(below, path)
				}
				return err
			})
			if err != nil {
				errs = append(errs, fmt.Errorf("list cgroup: %w", err))
			}
			for i := len(below) - 1; i >= 0; i-- {
				if i > 0 {
					errs = append(errs, &LeakError{"cgroup", below[i]})
				}
				errs = append(errs, removeCgroup(below[i]))
			}
		}
	}
	return errors.Join(errs...)
}

// removeCgroup removes a cgroup whose processes are gone. The kernel says busy
// until the last of them has left it altogether, and notifies nobody of that in v1.
func removeCgroup(path string) error {
	deadline := time.Now().Add(exitTimeout)
	for {
		err := unix.Rmdir(path)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", path, err)
		}
		<-time.After(time.Millisecond)
	}
}

// cgroupMounts lists where cgroup hierarchies of both versions are mounted.
func cgroupMounts() ([]string, error) {
	var points []string
	err := eachMount(func(point, fsType string) {
		if fsType == "cgroup" || fsType == "cgroup2" {
			points = append(points, point)
		}
	})
	return points, err
}

// mountsUnder lists the mount points below a directory in the order of mounting.
func mountsUnder(dir string) ([]string, error) {
	var points []string
	err := eachMount(func(point, _ string) {
		if strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	})
	return points, err
}

// eachMount reads this process's mountinfo; see proc_pid_mountinfo(5).
func eachMount(f func(point, fsType string)) error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	// An overlay's option string can be a page long.
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if ok && len(fields) > 4 && len(types) > 0 {
			f(fields[4], types[0])
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	return nil
}
