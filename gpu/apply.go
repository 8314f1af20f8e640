// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Apply writes the plan into a spec.
func (p *Plan) Apply(spec *specs.Spec) {
	spec.Mounts = slices.Clone(spec.Mounts)
	for _, d := range slices.Backward(p.drop) { // in rising order
		spec.Mounts = slices.Delete(spec.Mounts, d.what, d.what+1)
	}
	for _, m := range p.mounts {
		if !slices.ContainsFunc(spec.Mounts, func(o specs.Mount) bool { return o.Destination == m.what.Destination }) {
			spec.Mounts = append(spec.Mounts, m.what)
		}
	}
	if len(p.nodes) > 0 {
		p.applyNodes(spec)
	}
	if spec.Process != nil {
		for _, e := range p.env {
			setEnv(spec.Process, e.what)
		}
	}
	if len(p.cdi) > 0 {
		dropCDIHooks(spec)
	}
}

// applyNodes puts device nodes both where the runtime makes nodes from and
// where it allows them. What is allowed by the spec is allowed again when
// systemd reloads or the resources are updated.
func (p *Plan) applyNodes(spec *specs.Spec) {
	if spec.Linux == nil {
		spec.Linux = new(specs.Linux)
	}
	if spec.Linux.Resources == nil {
		spec.Linux.Resources = new(specs.LinuxResources)
	}
	for _, n := range p.nodes {
		mode := n.what.Mode
		if n.what.Host != "" && n.what.Host != n.what.Path && userNamespace(spec) {
			// The runtime cannot make nodes there: it binds the host's, by
			// the same path (runc, libcontainer/rootfs_linux.go).
			spec.Mounts = append(spec.Mounts, specs.Mount{
				Source: n.what.Host, Destination: n.what.Path, Type: "bind", Options: []string{"bind", "rprivate", "nosuid", "noexec"},
			})
		} else {
			spec.Linux.Devices = slices.DeleteFunc(spec.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == n.what.Path })
			spec.Linux.Devices = append(spec.Linux.Devices, specs.LinuxDevice{
				Path: n.what.Path, Type: "c", Major: int64(n.what.Major), Minor: int64(n.what.Minor),
				FileMode: &mode, UID: &n.what.UID, GID: &n.what.GID,
			})
		}
		allow(spec.Linux.Resources, n.what)
		if mode&0o006 != 0o006 && n.what.GID != 0 && spec.Process != nil && !slices.Contains(spec.Process.User.AdditionalGids, n.what.GID) {
			spec.Process.User.AdditionalGids = append(spec.Process.User.AdditionalGids, n.what.GID)
		}
	}
}

// userNamespace is true where the container gets a user namespace, its own or
// another's.
func userNamespace(spec *specs.Spec) bool {
	return spec.Linux != nil && slices.ContainsFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// rootIDs are the host's ids of the container's root.
func rootIDs(spec *specs.Spec) (uid, gid int) {
	if spec.Linux == nil {
		return 0, 0
	}
	return mapped(spec.Linux.UIDMappings), mapped(spec.Linux.GIDMappings)
}

func mapped(ids []specs.LinuxIDMapping) int {
	for _, m := range ids {
		if m.ContainerID == 0 && m.Size > 0 {
			return int(m.HostID)
		}
	}
	return 0
}

func allow(r *specs.LinuxResources, n Node) {
	major, minor := int64(n.Major), int64(n.Minor)
	for _, d := range r.Devices {
		if d.Allow && d.Type == "c" && d.Major != nil && d.Minor != nil && *d.Major == major && *d.Minor == minor && d.Access == "rwm" {
			return
		}
	}
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rwm"})
}

func hasEnv(spec *specs.Spec, name string) bool {
	return spec.Process != nil && slices.ContainsFunc(spec.Process.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
}

// setEnv sets a variable, taking away all that it was set to before: which of
// several counts differs between programs.
func setEnv(p *specs.Process, entry string) {
	name, _, _ := strings.Cut(entry, "=")
	p.Env = slices.DeleteFunc(slices.Clone(p.Env), func(e string) bool { return strings.HasPrefix(e, name+"=") })
	p.Env = append(p.Env, entry)
}
