// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"errors"
	"fmt"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/ledger"
	"berth/process"
	"berth/process/cgroup"
)

// moveIn makes the container a tenant: of a group of its own, or of that of its
// pod, if there is one. It puts on record how it can be told, by anybody and
// whatever becomes of this shim, that the container lives. owner gets the group.
//
// Two containers of a pod that move in at once may found two groups; each then
// has slices of its own. In one shim that does not happen (Hook.sharing).
func (h *Hook) moveIn(owner *SliceOwner, id string, spec *specs.Spec) error {
	t := owner.tenant(id)
	all, err := ledger.Tenants(h.Roots.Run)
	if err != nil {
		return err
	}
	t.Group = ledger.NewID()
	if i := slices.IndexFunc(all, func(o *ledger.Tenant) bool { return owner.Pod && o.Namespace == t.Namespace && o.Pod == t.Pod }); i >= 0 {
		t.Group = all[i].Group
	}
	owner.Group = t.Group
	if t.BootID, _, err = epoch(h.Roots); err != nil {
		return fmt.Errorf("name this boot: %w", err)
	}
	t.PID = os.Getpid()
	if t.StartTime, err = process.StartTime(t.PID); err != nil {
		return fmt.Errorf("look when this process started: %w", err)
	}
	for _, path := range cgroupsPaths(spec, id) {
		loc, err := cgroup.Place(path)
		if err != nil {
			return fmt.Errorf("tell where the container's cgroup will be: %w", err)
		}
		t.Cgroups = append(t.Cgroups, loc)
	}
	return t.Write(h.Roots.Run)
}

// moveOut undoes moveIn, and says whether the container was the last of its
// group that lives: one whose shim died before its claim has nobody to move it
// out. Of several that move out at once, one at least is.
func (h *Hook) moveOut(owner SliceOwner, id string) (last bool, err error) {
	err = owner.tenant(id).Remove(h.Roots.Run)
	all, readErr := ledger.Tenants(h.Roots.Run)
	boot, _, bootErr := epoch(h.Roots)
	others := slices.ContainsFunc(all, func(o *ledger.Tenant) bool {
		return o.Group == owner.Group && o.Container != id && (bootErr != nil || o.Life(boot) != ledger.Gone)
	})
	return !others, errors.Join(err, readErr, bootErr)
}

func (o SliceOwner) tenant(id string) *ledger.Tenant {
	t := &ledger.Tenant{Namespace: o.Namespace, Container: id, Group: o.Group}
	if o.Pod {
		t.Pod = o.ID
	}
	return t
}

// cgroupsPaths are where the runtime may make the container's cgroup. Without a
// path in the spec that depends on whether systemd is asked to.
func cgroupsPaths(spec *specs.Spec, id string) []string {
	if spec.Linux != nil && spec.Linux.CgroupsPath != "" {
		return []string{spec.Linux.CgroupsPath}
	}
	return []string{id, ":runc:" + id}
}
