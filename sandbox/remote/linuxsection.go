// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/sandbox/vm/vfio"
)

// linux rewrites the linux section.
func (p *plan) linux(s *specs.Spec, id string) (*specs.Linux, error) {
	linux := *s.Linux
	linux.CgroupsPath = "/berth/" + id
	linux.MountLabel, linux.IntelRdt, linux.NetDevices = "", nil, nil
	if r := linux.Resources; r != nil { // those that name devices or pages of the host's
		resources := *r
		resources.BlockIO, resources.Rdma, resources.HugepageLimits = nil, nil, nil
		resources.Devices = guestRules(r.Devices, s.Linux.Devices)
		linux.Resources = &resources
	}
	switch linux.RootfsPropagation {
	case "shared", "rshared":
		linux.RootfsPropagation = "rslave"
	}
	linux.Devices = nil
	for _, d := range s.Linux.Devices {
		switch {
		case d.Type == "b" && has(s, specs.UserNamespace):
			// A runtime binds the node of that name then, which the guest has not.
			return nil, refuse("the block device %s comes with a user namespace (hostUsers: false)", d.Path)
		case d.Type == "b":
			var rules []specs.LinuxDeviceCgroup
			if s.Linux.Resources != nil {
				rules = s.Linux.Resources.Devices
			}
			p.blockDevice(d, rules)
		case vfio.Is(d):
			p.vfio = append(p.vfio, d)
		case everyKernels(d):
			linux.Devices = append(linux.Devices, d)
		default:
			return nil, refuse("the device %s (%s %d:%d) is the host's, which the guest does not have", d.Path, d.Type, d.Major, d.Minor)
		}
	}
	linux.Sysctl = nil
	for name, value := range s.Linux.Sysctl {
		into := &linux.Sysctl
		if strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "net/") {
			into = &p.sysctls
		}
		if *into == nil {
			*into = make(map[string]string)
		}
		(*into)[name] = value
	}
	var err error
	linux.Namespaces, err = p.namespaces(s)
	return &linux, err
}

// everyKernels is true for the devices of memory and of terminals, which are
// the same on every kernel (Documentation/admin-guide/devices.txt).
func everyKernels(d specs.LinuxDevice) bool {
	return d.Type == "c" && (d.Major == 1 && d.Minor != 1 && d.Minor != 2 && d.Minor != 4 || d.Major == 5 && d.Minor == 0)
}

// namespaces rewrites the namespaces. The network is the guest's own, which is
// the pod's.
func (p *plan) namespaces(s *specs.Spec) ([]specs.LinuxNamespace, error) {
	has := make(map[specs.LinuxNamespaceType]bool)
	var out []specs.LinuxNamespace
	for _, ns := range s.Linux.Namespaces {
		has[ns.Type] = true
		path := ns.Path
		ns.Path = ""
		switch {
		case ns.Type == specs.NetworkNamespace:
			continue
		case ns.Type == specs.UserNamespace && (path == "" || s.Annotations[containerType] == sandboxType):
			p.users = path // what is mapped is in the spec
		case path == "":
		case ns.Type == specs.UserNamespace, ns.Type == specs.IPCNamespace, ns.Type == specs.UTSNamespace, ns.Type == specs.PIDNamespace:
			sandbox := s.Annotations[SandboxAnnotation]
			if sandbox == "" {
				return nil, refuse("the %s namespace is %s, of a process that is not in this VM", ns.Type, path)
			}
			if p.join == nil {
				p.join = make(map[string]string)
			}
			p.join[string(ns.Type)] = sandbox
		default:
			return nil, refuse("the %s namespace is %s, which is one of the host's kernel", ns.Type, path)
		}
		out = append(out, ns)
	}
	for _, need := range []struct {
		kind specs.LinuxNamespaceType
		name string
	}{
		{specs.NetworkNamespace, "hostNetwork"}, {specs.PIDNamespace, "hostPID"}, {specs.IPCNamespace, "hostIPC"},
	} {
		if !has[need.kind] {
			return nil, refuse("the container is to share the host's %s namespace (%s), which no VM can", need.kind, need.name)
		}
	}
	return out, nil
}
