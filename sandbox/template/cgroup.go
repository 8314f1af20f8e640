// SPDX-License-Identifier: Apache-2.0

package template

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"berth/process/cgroup"
)

// defaultCgroup is where keepers are, and below it the machines that become
// templates: the memory of templates is theirs, and no pod's.
const defaultCgroup = "/berth/templates"

// cgroups are the directories of a keeper's cgroup.
type cgroups struct {
	path string // below the root of each hierarchy
	made []string
}

// joinCgroup leaves whatever cgroup the shim was started in, which may be a
// pod's, and would not go as long as somebody is in it. Where memory is counted
// the keeper gets one of its own, which several may share and the last removes.
func joinCgroup(path string) (g cgroups, _ error) {
	g.path = path
	loc, err := cgroup.Place(path)
	if err != nil {
		return g, fmt.Errorf("find a cgroup for the keeper: %w", err)
	}
	for controller, dir := range loc.Dirs {
		g.made = append(g.made, dir.Path) // if not now, then with the first machine
		sweep(dir.Path)
		to := strings.TrimSuffix(dir.Path, path)
		if controller == cgroup.Unified || controller == "memory" {
			to = dir.Path
			if err := os.MkdirAll(to, 0o755); err != nil {
				return g, fmt.Errorf("make a cgroup for the keeper: %w", err)
			}
		}
		if err := enter(to); err != nil {
			return g, fmt.Errorf("move the keeper to a cgroup: %w", err)
		}
	}
	return g, nil
}

// sweep removes what a keeper has left that was killed: cgroups of machines in
// which nobody is.
func sweep(dir string) {
	left, err := os.ReadDir(dir)
	if err != nil {
		return // there is none
	}
	for _, e := range left {
		if e.IsDir() {
			_ = unix.Rmdir(filepath.Join(dir, e.Name())) // EBUSY: another keeper's, which lives
		}
	}
}

// leave removes the cgroups, unless others are in them.
func (g cgroups) leave() error {
	var errs []error
	for _, dir := range g.made {
		errs = append(errs, enter(strings.TrimSuffix(dir, g.path)))
		for d := range 2 { // "/berth" is also where machines are whose container has no place of its own
			if err := unix.Rmdir([]string{dir, filepath.Dir(dir)}[d]); err != nil {
				if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.ENOENT) {
					errs = append(errs, fmt.Errorf("remove the keeper's cgroup: %w", err))
				}
				break
			}
		}
	}
	return errors.Join(errs...)
}

func enter(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("0") // who writes (cgroups(7))
	return errors.Join(err, f.Close())
}
