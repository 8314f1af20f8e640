// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"os"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// A pod with a user namespace (`hostUsers: false`) has one in the guest, with the
// same ids: it is made with the pod's first container, and joined by the others.
// The one that the host has made for the pod is where ids of volumes are mapped.

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
