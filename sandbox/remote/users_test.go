// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// The sandbox of a pod has the pod's user namespace made anew in the guest, the
// others join it; ids of mounts are the host's business.
func TestUserNamespace(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec := func(kind, path string) *specs.Spec {
		return &specs.Spec{
			Root: &specs.Root{Path: "/r"}, Process: &specs.Process{},
			Annotations: map[string]string{SandboxAnnotation: "pod", containerType: kind},
			Mounts: []specs.Mount{
				{Type: "sysfs", Source: "sysfs", Destination: "/sys", Options: []string{"ro"}},
				{Type: "bind", Source: "/v", Destination: "/v", Options: []string{"rbind", "ridmap"}, UIDMappings: ids, GIDMappings: ids},
			},
			Linux: &specs.Linux{UIDMappings: ids, GIDMappings: ids, Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace, Path: path}, {Type: specs.NetworkNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
			}},
		}
	}
	for kind, c := range map[string]struct {
		path, users, join string
		mapped            int
	}{sandboxType: {"/pinned", "/pinned", "", 1}, "container": {"/proc/7/ns/user", "", "pod", 0}} {
		p, err := planFor("id", "/b", place{share: "/s"}, nil, spec(kind, c.path))
		if err != nil {
			t.Fatal(err)
		}
		var out specs.Spec
		if err := json.Unmarshal(p.spec, &out); err != nil {
			t.Fatal(err)
		}
		if p.users != c.users || p.join["user"] != c.join || len(out.Linux.UIDMappings) != c.mapped || len(out.Linux.GIDMappings) != c.mapped {
			t.Errorf("%s: users %q, join %v, mappings %v", kind, p.users, p.join, out.Linux.UIDMappings)
		}
		if ns := out.Linux.Namespaces[0]; ns.Type != specs.UserNamespace || ns.Path != "" {
			t.Errorf("%s: %+v", kind, ns)
		}
		if m := out.Mounts[0]; m.Type != "bind" || m.Source != "/sys" || !slices.Equal(m.Options, []string{"ro", "rbind"}) {
			t.Errorf("%s: sysfs is %+v", kind, m)
		}
		if m := out.Mounts[1]; m.UIDMappings != nil || !slices.Equal(m.Options, []string{"rbind"}) || !p.binds[1].mapped {
			t.Errorf("%s: %+v of %+v", kind, m, p.binds[1])
		}
	}
	disk := spec(sandboxType, "/pinned")
	disk.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/xvda", Type: "b", Major: 7}}
	if _, err := planFor("id", "/b", place{share: "/s"}, nil, disk); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a block device: %v", err)
	}
	disk = spec(sandboxType, "/pinned")
	disk.Mounts = []specs.Mount{{Type: "ext4", Source: "/image", Destination: "/v", Options: []string{"ridmap"}, UIDMappings: ids, GIDMappings: ids}}
	p, err := planFor("id", "/b", place{share: "/s", disks: "/d"}, nil, disk)
	if err != nil {
		t.Fatal(err)
	}
	var out specs.Spec
	if err := json.Unmarshal(p.spec, &out); err != nil {
		t.Fatal(err)
	}
	if m := out.Mounts[0]; len(p.mounts[0].Options) != 0 || len(m.UIDMappings) != 1 || !slices.Equal(m.Options, []string{"bind", "ridmap"}) {
		t.Errorf("a disk with mapped ids: %v, %+v", p.mounts[0].Options, m)
	}
	alone := spec("", "/proc/7/ns/user")
	alone.Annotations = nil
	if _, err := planFor("id", "/b", place{share: "/s"}, nil, alone); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a namespace of somebody else's: %v", err)
	}
}

// Ids that are to be mapped are, or the mount is refused.
func TestMappedWithoutUsers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := share{filepath.Join(dir, "share")}
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := os.Mkdir(filepath.Join(dir, "v"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.add("c", []bind{{name: "0", source: filepath.Join(dir, "v"), mapped: true}}, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("without a user namespace: %v", err)
	}
}
