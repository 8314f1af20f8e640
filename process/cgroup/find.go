// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// Claim takes the place where the runtime will make the cgroup that an OCI
// spec's linux.cgroupsPath names: an absolute path, one relative to the
// caller's own cgroup, or systemd's slice:prefix:name. It is for a container
// whose making may be cut off, so that there is no process to Open it by: Load
// then finds what there is.
//
// The error is errdefs.ErrAlreadyExists where such a cgroup is there already,
// so that what is in it later need not be the container's. Of several that
// claim one path at once one succeeds, because it makes the directory in one
// hierarchy; runtimes take an empty one. systemd makes its units itself, under
// names that are a container's own, so there it is only looked.
//
// errdefs.ErrInvalidArgument is for a path that has none of these forms.
func Claim(cgroupsPath string) (Location, error) {
	loc, err := view{}.expect(cgroupsPath)
	if err != nil || strings.Contains(cgroupsPath, ":") {
		return loc, err
	}
	for _, controller := range claimIn {
		dir, ok := loc.Dirs[controller]
		if !ok {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(dir.Path), 0o755); err != nil {
			return Location{}, fmt.Errorf("claim cgroup: %w", err)
		}
		err := os.Mkdir(dir.Path, 0o755)
		if errors.Is(err, os.ErrExist) {
			return Location{}, fmt.Errorf("cgroup %q: %w", cgroupsPath, errdefs.ErrAlreadyExists)
		}
		if err != nil {
			return Location{}, fmt.Errorf("claim cgroup: %w", err)
		}
		return loc, nil
	}
	return Location{}, fmt.Errorf("claim cgroup: no hierarchy to do it in: %w", errdefs.ErrUnavailable)
}

// claimIn are the hierarchies in which a directory needs no more than to be
// made, the first that there is being used by all.
var claimIn = [...]string{Unified, "pids", "freezer", "devices", "name=systemd"}

func (v view) expect(cgroupsPath string) (Location, error) {
	mounts, err := v.known()
	if err != nil {
		return Location{}, err
	}
	loc, err := v.place(cgroupsPath, mounts)
	if err != nil {
		return Location{}, err
	}
	cg, err := v.load(loc, mounts)
	if errdefs.IsNotFound(err) {
		return loc, nil
	}
	if err != nil {
		return Location{}, err
	}
	_ = cg.Close()
	return Location{}, fmt.Errorf("cgroup %q: %w", cgroupsPath, errdefs.ErrAlreadyExists)
}

// place is where a runtime makes what a cgroupsPath names, be it there or not.
func (v view) place(cgroupsPath string, mounts []mount) (Location, error) {
	path, err := resolve(cgroupsPath)
	if err != nil {
		return Location{}, err
	}
	self, err := v.locate("self", mounts)
	if err != nil {
		return Location{}, err
	}
	loc := Location{Version: self.Version, Dirs: map[string]Dir{}}
	for controller, own := range self.Dirs {
		for _, m := range mounts {
			if !m.carries(controller) {
				continue
			}
			dir := filepath.Join(m.point, path)
			if !filepath.IsAbs(path) {
				dir = filepath.Join(own.Path, path)
			}
			loc.Dirs[controller] = Dir{Path: dir, Shared: encloses(dir, own.Path)}
			break
		}
	}
	return loc, nil
}

// resolve turns a cgroupsPath into a path below the root of each hierarchy, or
// a relative one.
func resolve(cgroupsPath string) (string, error) {
	parts := strings.Split(cgroupsPath, ":")
	switch {
	case filepath.IsAbs(cgroupsPath) && !leavesRoot(cgroupsPath):
		return filepath.Clean(cgroupsPath), nil
	case len(parts) == 1 && filepath.IsLocal(cgroupsPath):
		return filepath.Clean(cgroupsPath), nil
	case len(parts) != 3 || strings.Contains(cgroupsPath, "/"):
		return "", fmt.Errorf("cgroupsPath %q is neither a path nor slice:prefix:name: %w", cgroupsPath, errdefs.ErrInvalidArgument)
	}
	slice, unit := parts[0], parts[2]
	if slice == "" {
		slice = "system.slice" // runc's default for a privileged user
	}
	if !strings.HasSuffix(unit, ".slice") {
		unit = parts[1] + "-" + unit + ".scope"
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
