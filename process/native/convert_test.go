// SPDX-License-Identifier: Apache-2.0

package native

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process/oci"
)

// The owner of one container's devices is not that of the next one's.
func TestConversionsAreApart(t *testing.T) {
	owner := func(users bool) uint32 {
		spec := &specs.Spec{
			Root: &specs.Root{Path: "/"}, Process: shell(""),
			Linux: &specs.Linux{CgroupsPath: "/a", Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
		}
		if users {
			ids := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
			spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}
		config, err := (&Driver{}).convert(&oci.CreateRequest{ID: "a"}, spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range config.Devices {
			if d.Path == "/dev/null" {
				return d.Uid
			}
		}
		t.Fatal("there is no /dev/null")
		return 0
	}
	for _, users := range []bool{true, false} {
		if got, want := owner(users), map[bool]uint32{true: 100000}[users]; got != want {
			t.Errorf("user namespace %v: the owner of /dev/null is %d, want %d", users, got, want)
		}
	}
}
