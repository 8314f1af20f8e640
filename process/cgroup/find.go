// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// Find opens the cgroup that an OCI spec's linux.cgroupsPath names, in
// whichever hierarchies it exists: an absolute path, or systemd's
// slice:prefix:name. It is for a container whose making was cut off, so that
// there is no process to open it by. The error is errdefs.ErrNotFound where the
// cgroup does not exist, and errdefs.ErrInvalidArgument for another form, whose
// place is the runtime's choice.
func Find(cgroupsPath string) (*Cgroup, error) { return view{}.find(cgroupsPath) }

func (v view) find(cgroupsPath string) (*Cgroup, error) {
	path, err := resolve(cgroupsPath)
	if err != nil {
		return nil, err
	}
	mounts, err := v.mounts()
	if err != nil {
		return nil, err
	}
	self, err := v.locate("self", mounts)
	if err != nil {
		return nil, err
	}
	loc := Location{Version: self.Version, Dirs: map[string]Dir{}}
	for controller, own := range self.Dirs {
		for _, m := range mounts {
			if !m.carries(controller) {
				continue
			}
			dir := filepath.Join(m.point, path)
			loc.Dirs[controller] = Dir{Path: dir, Shared: encloses(dir, own.Path)}
			break
		}
	}
	return v.load(loc, mounts)
}

// resolve turns a cgroupsPath into a path below the root of each hierarchy.
func resolve(cgroupsPath string) (string, error) {
	if filepath.IsAbs(cgroupsPath) && !leavesRoot(cgroupsPath) {
		return filepath.Clean(cgroupsPath), nil
	}
	parts := strings.Split(cgroupsPath, ":")
	if len(parts) != 3 || strings.Contains(cgroupsPath, "/") {
		return "", fmt.Errorf("find cgroup: path %q is neither absolute nor slice:prefix:name: %w", cgroupsPath, errdefs.ErrInvalidArgument)
	}
	slice, unit := parts[0], parts[2]
	if slice == "" {
		slice = "system.slice" // runc's default for a privileged user
	}
	if !strings.HasSuffix(unit, ".slice") {
		unit = parts[1] + "-" + unit + ".scope"
		if parts[1] == "" {
			unit = parts[2] + ".scope"
		}
	}
	return filepath.Join("/", expandSlice(slice), unit), nil
}

// expandSlice gives the directories of a slice: a-b.slice lies in a.slice
// (systemd.slice(5)). The root slice is "-.slice", or "-" in a cgroupsPath.
func expandSlice(slice string) string {
	name := strings.TrimSuffix(slice, ".slice")
	if name == "-" {
		return ""
	}
	var path, prefix string
	for part := range strings.SplitSeq(name, "-") {
		prefix += part
		path = filepath.Join(path, prefix+".slice")
		prefix += "-"
	}
	return path
}
