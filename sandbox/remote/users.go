// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/sandbox/agentapi"
)

// A pod with a user namespace (`hostUsers: false`) has one in the guest, with the
// same ids: it is made with the pod's first container, and joined by the others.
// The one that the host has made for the pod is where ids of volumes are mapped, but for
// those in the guest's memory.

func has(s *specs.Spec, kind specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
}

// inUserNamespace makes a spec one that a runtime in the guest can follow.
func (p *plan) inUserNamespace(out *specs.Spec, has bool) {
	if !has {
		return
	}
	if p.join[string(specs.UserNamespace)] != "" {
		out.Linux.UIDMappings, out.Linux.GIDMappings = nil, nil // those of the namespace
	}
	// The network namespace is the guest's, and only its owner may mount sysfs
	// anew (sysfs_get_tree, fs/sysfs/mount.c).
	for i, m := range out.Mounts {
		if m.Type == "sysfs" {
			out.Mounts[i].Type, out.Mounts[i].Source = "bind", "/sys"
			out.Mounts[i].Options = append(slices.Clone(m.Options), "rbind")
		}
	}
}

// mapIDs gives a file system in the guest's memory the ids that a mount would map its
// own to: what is in it is of the pod's containers alone, who all have that one user
// namespace. It is false, and nothing has changed, if one of them is not mapped.
func mapIDs(t *agentapi.Tmpfs, m specs.Mount) bool {
	ids := []*uint32{&t.Uid}
	groups := []*uint32{&t.Gid}
	for _, d := range t.Directories {
		ids, groups = append(ids, &d.Uid), append(groups, &d.Gid)
	}
	mapped := make([]uint32, 0, 2*len(ids))
	for _, of := range []struct {
		ids []*uint32
		by  []specs.LinuxIDMapping
	}{{ids, m.UIDMappings}, {groups, m.GIDMappings}} {
		for _, id := range of.ids {
			i := slices.IndexFunc(of.by, func(r specs.LinuxIDMapping) bool { return *id >= r.ContainerID && *id-r.ContainerID < r.Size })
			if i < 0 {
				return false
			}
			mapped = append(mapped, of.by[i].HostID+(*id-of.by[i].ContainerID))
		}
	}
	for i, id := range append(ids, groups...) {
		*id = mapped[i]
	}
	return true
}

// openUsers opens the pod's user namespace on the host.
func (r *guest) openUsers(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the pod's user namespace: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users != nil {
		_ = r.users.Close()
	}
	r.users = f
	return nil
}

// userNamespace is nil for a pod that has none.
func (r *guest) userNamespace() *os.File {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.users
}
