// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Frozen reports whether the cgroup is frozen or on its way there: freezer.state
// on v1 (cgroup-v1/freezer-subsystem.rst), cgroup.freeze on v2 (cgroup-v2.rst).
// An ancestor's freeze counts on v1. A removed cgroup is not frozen.
func (c *Cgroup) Frozen() (bool, error) {
	if !c.acquire() {
		return false, errClosed("read freezer")
	}
	defer c.release()
	for _, f := range freezers {
		dir, ok := c.dirs[f.controller]
		if !ok {
			continue
		}
		text, err := readIn(dir, f.file)
		if isGone(err) {
			continue // no such file in a root cgroup
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %w", f.file, err)
		}
		if state := string(bytes.TrimSpace(text)); state != "" && state != f.thaw {
			return true, nil
		}
	}
	return false, nil
}

// Thaw lets the cgroup and all below it run. A v1 cgroup stays frozen while an
// ancestor is. The error is errdefs.ErrFailedPrecondition where the cgroup is
// not the container's own.
func (c *Cgroup) Thaw() error {
	if !c.acquire() {
		return errClosed("thaw")
	}
	defer c.release()
	members, err := c.members()
	if err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return c.thaw(members)
}

// freezer is a hierarchy that can freeze.
type freezer struct{ controller, file, freeze, thaw string }

var freezers = [...]freezer{
	{controller: "freezer", file: "freezer.state", freeze: "FROZEN", thaw: "THAWED"},
	{controller: Unified, file: "cgroup.freeze", freeze: "1", thaw: "0"},
}

// freezersOf are the freezers among members; v1's is a member whenever it is
// the container's own.
func freezersOf(members []string) []freezer {
	var found []freezer
	for _, f := range freezers {
		for _, m := range members {
			if m == f.controller {
				found = append(found, f)
			}
		}
	}
	return found
}

// freeze stops the cgroup from forking; the kernel freezes all below too. It
// does not wait for FROZEN: a process in uninterruptible sleep would hold it
// up, and a process on its way there does not fork either.
func (c *Cgroup) freeze(members []string) {
	for _, f := range freezersOf(members) {
		// Without a freezer the kill takes more rounds, and still ends.
		_ = writeIn(c.dirs[f.controller], f.file, f.freeze)
	}
}

// thaw thaws the cgroup and all below, parents first: a child may have been
// frozen by itself.
func (c *Cgroup) thaw(members []string) error {
	var errs []error
	for _, f := range freezersOf(members) {
		errs = append(errs, walk(c.dirs[f.controller], func(dir int) error {
			err := writeIn(dir, f.file, f.thaw)
			if isGone(err) || errors.Is(err, unix.EOPNOTSUPP) {
				return nil
			}
			return err
		}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}
