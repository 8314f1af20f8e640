// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Place is where a runtime makes the cgroup that an OCI spec's linux.cgroupsPath
// names, for a Load once it may be there. Claim says which forms there are.
func Place(cgroupsPath string) (Location, error) {
	mounts, err := view{}.known()
	if err != nil {
		return Location{}, err
	}
	return view{}.place(cgroupsPath, mounts)
}

// Beside names a cgroup that has the parent of the container's whose
// linux.cgroupsPath is given: in a pod, the pod's own. It is for processes that
// work for a pod and are none of its containers'. A cgroup in a systemd slice
// that systemd was not told of is left alone by it, and goes with the slice.
func Beside(cgroupsPath, name string) (string, error) {
	path, err := resolve(cgroupsPath)
	if cgroupsPath == "" { // the runtime makes one below its own
		path, err = "container", nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(path), name), nil
}

// joined are the controllers by which a process that joins is counted, and
// those by which it can be found and killed. Others need values before anybody
// may join (cpuset), or say what it may do (devices).
var joined = [...]string{Unified, "memory", "cpu", "cpuacct", "pids", "freezer"}

// Make claims a cgroup and makes it in each hierarchy where a process is to
// join it. It returns also the files to which such a process writes "0".
func Make(cgroupsPath string) (_ Location, procs []string, retErr error) {
	loc, err := Claim(cgroupsPath)
	if err != nil {
		return Location{}, nil, err
	}
	maps.DeleteFunc(loc.Dirs, func(controller string, _ Dir) bool { return !slices.Contains(joined[:], controller) })
	defer func() {
		if retErr != nil {
			for _, dir := range loc.Dirs {
				_ = os.Remove(dir.Path)
			}
		}
	}()
	for controller, dir := range loc.Dirs {
		if err := os.MkdirAll(dir.Path, 0o755); err != nil {
			return Location{}, nil, fmt.Errorf("make cgroup: %w", err)
		}
		var st unix.Stat_t
		if err := unix.Stat(dir.Path, &st); err != nil {
			return Location{}, nil, fmt.Errorf("make cgroup: %w", err)
		}
		dir.Inode = st.Ino
		loc.Dirs[controller] = dir
		if file := filepath.Join(dir.Path, "cgroup.procs"); !slices.Contains(procs, file) {
			procs = append(procs, file)
		}
	}
	if len(procs) == 0 {
		return Location{}, nil, errors.New("make cgroup: no hierarchy to do it in")
	}
	return loc, procs, nil
}
