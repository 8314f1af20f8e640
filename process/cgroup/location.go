// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// Version says which cgroup interface a host offers.
type Version string

const (
	// V1 has one hierarchy per controller and no unified one.
	V1 Version = "v1"
	// V2 has the unified hierarchy alone (named v1 hierarchies do not count).
	V2 Version = "v2"
	// Hybrid has v1 controllers and a unified hierarchy beside them.
	Hybrid Version = "hybrid"
)

// Unified is the key of the unified (v2) hierarchy in Location.Dirs; the kernel
// writes its controller list as the empty string in /proc/<pid>/cgroup.
const Unified = ""

// Location is the durable record of a cgroup: JSON-able, written by the process
// that opened it and given to Load by a later one.
type Location struct {
	// Version is the host's interface when the cgroup was opened.
	Version Version `json:"version"`
	// Dirs maps a v1 controller ("memory", "name=systemd") or Unified to its
	// directory. Controllers that are not mounted have no entry.
	Dirs map[string]Dir `json:"dirs"`
}

// Dir is one directory of a Location.
type Dir struct {
	// Path is absolute, in the mount namespace of the process that opened it.
	Path string `json:"path"`
	// Inode tells the directory from a later one of the same name: cgroup
	// inode numbers are not reused (kernfs ids grow; kernel fs/kernfs/dir.c).
	Inode uint64 `json:"inode,omitempty"`
	// Shared is set where the cgroup is the opener's own, an ancestor of it,
	// or a root: it holds processes that are not the container's.
	Shared bool `json:"shared,omitempty"`
}

// view is a host as seen through /proc. root is "" outside tests; a test puts a
// fake tree there, below which all paths are resolved.
type view struct{ root string }

// locate finds the directories of pid ("self" or a number) in mounts.
func (v view) locate(pid string, mounts []mount) (Location, error) {
	memberships, err := v.readFile(filepath.Join("/proc", pid, "cgroup"))
	if err != nil {
		return Location{}, fmt.Errorf("read cgroups of process %s: %w", pid, err)
	}
	loc := Location{Version: versionOf(mounts), Dirs: map[string]Dir{}}
	for _, m := range parseMemberships(string(memberships)) {
		for _, mnt := range mounts {
			if !mnt.carries(m.controller) {
				continue
			}
			if dir, ok := mnt.dir(m.path); ok {
				// The visible root is never a container's own, whatever the
				// caller's cgroup is.
				loc.Dirs[m.controller] = Dir{Path: dir, Shared: dir == mnt.point}
				break
			}
		}
	}
	if len(loc.Dirs) == 0 {
		return Location{}, fmt.Errorf("process %s is in no cgroup that is mounted here: %w", pid, errdefs.ErrNotFound)
	}
	return loc, nil
}

// encloses reports whether dir is the other directory or an ancestor of it.
func encloses(dir, other string) bool {
	return dir == other || strings.HasPrefix(other, strings.TrimSuffix(dir, "/")+"/")
}

// membership is one line of /proc/<pid>/cgroup for one controller
// (cgroups(7), "/proc/[pid]/cgroup"); path is relative to the caller's cgroup
// namespace.
type membership struct{ controller, path string }

// parseMemberships reads lines "hierarchy:controller,controller:path". Lines
// that are malformed, lie outside the caller's cgroup namespace ("/../x") or
// name a removed cgroup are left out.
func parseMemberships(text string) []membership {
	var found []membership
	for line := range strings.Lines(text) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if !ok {
			continue
		}
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok || !strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)") || leavesRoot(path) {
			continue
		}
		if controllers == "" || strings.HasPrefix(controllers, "name=") {
			found = append(found, membership{controllers, filepath.Clean(path)})
			continue
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			if controller != "" {
				found = append(found, membership{controller, filepath.Clean(path)})
			}
		}
	}
	return found
}

// leavesRoot reports whether path has a ".." component.
func leavesRoot(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}
