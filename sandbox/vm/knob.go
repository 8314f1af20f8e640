// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"berth/process/cgroup"
)

// knob is a file of a cgroup's and what is written to it.
type knob struct{ controller, file, value string }

// set turns a knob: v1 where the controller has a hierarchy of its own, v2 where
// the unified one has it. A host that has the controller nowhere limits nobody
// by it, and so not a machine.
func (m *Machine) set(v1, v2 knob) error {
	if m.cgroup == nil {
		return nil
	}
	return setIn(m.cgroup.Location(), v1, v2)
}

func setIn(loc cgroup.Location, v1, v2 knob) error {
	k, dir, ok := v1, loc.Dirs[v1.controller], true
	if dir.Path == "" {
		k = v2
		dir, ok = loc.Dirs[cgroup.Unified]
	}
	if !ok {
		return nil
	}
	err := os.WriteFile(filepath.Join(dir.Path, k.file), []byte(k.value), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the controller is not there
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) { // a file that is not there cannot be made, which the kernel says like this
		if _, statErr := os.Stat(filepath.Join(dir.Path, k.file)); errors.Is(statErr, fs.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("set %s to %s: %w", k.file, k.value, err)
	}
	return nil
}

// delegate has the controllers that a machine is limited by work in its cgroup:
// on v2 each directory above has to pass them on. Where one cannot, because
// it has processes itself, the cgroup does without, as with runc.
func delegate(loc cgroup.Location) {
	dir, ok := loc.Dirs[cgroup.Unified]
	if !ok {
		return
	}
	var above []string
	for path := filepath.Dir(dir.Path); ; path = filepath.Dir(path) {
		if _, err := os.Stat(filepath.Join(path, "cgroup.controllers")); err != nil {
			break
		}
		above = append(above, path)
	}
	for i := len(above) - 1; i >= 0; i-- {
		for _, controller := range []string{"memory", "cpu", "cpuset", "pids", "io"} {
			_ = os.WriteFile(filepath.Join(above[i], "cgroup.subtree_control"), []byte("+"+controller), 0)
		}
	}
}

// limitCPUSet binds the machine to CPUs; none is those that its parent has.
func (m *Machine) limitCPUSet(cpus string) error {
	if m.cgroup == nil {
		return nil
	}
	if dir, ok := m.cgroup.Location().Dirs["cpuset"]; ok && cpus == "" {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(dir.Path), "cpuset.cpus"))
		if err != nil {
			return fmt.Errorf("take all CPUs again: %w", err)
		}
		cpus = strings.TrimSpace(string(text))
	}
	return m.set(knob{"cpuset", "cpuset.cpus", cpus}, knob{"cpuset", "cpuset.cpus", cpus})
}

// fillCPUSet gives a cpuset of v1, and those above it, what their parents have:
// it takes no process before that (Documentation/admin-guide/cgroup-v1/cpusets.rst).
func fillCPUSet(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if _, err := inherit(dir, file); err != nil {
			return fmt.Errorf("set up the cpuset: %w", err)
		}
	}
	return nil
}

func inherit(dir, file string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return "", err
	}
	if value := strings.TrimSpace(string(data)); value != "" {
		return value, nil
	}
	value, err := inherit(filepath.Dir(dir), file)
	if err != nil {
		return "", err
	}
	return value, os.WriteFile(filepath.Join(dir, file), []byte(value), 0)
}
