// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process/oci"
)

// TestPlan has testdata/plan/CASE.in.json become CASE.out.json: the guest's
// spec, and what goes with it.
func TestPlan(t *testing.T) {
	ins, err := filepath.Glob("testdata/plan/*.in.json")
	if err != nil || len(ins) == 0 {
		t.Fatal("no cases", err)
	}
	for _, in := range ins {
		base := strings.TrimSuffix(in, ".in.json")
		t.Run(filepath.Base(base), func(t *testing.T) {
			var spec specs.Spec
			decode(t, in, &spec)
			before, _ := json.Marshal(spec)
			p, err := planFor("c1", "/bundle", place{"/share/c1", "/disks/1"}, nil, &spec)
			if err != nil {
				t.Fatal(err)
			}
			if after, _ := json.Marshal(spec); string(after) != string(before) {
				t.Errorf("the host's spec was changed:\n%s\n%s", before, after)
			}
			got := outcome{Spec: p.spec, Join: p.join, Sysctls: p.sysctls}
			for _, m := range p.tmpfs {
				got.Tmpfs = append(got.Tmpfs, fmt.Sprintf("%s %d %o %d:%d %s", m.Name, m.Size, m.Mode, m.Uid, m.Gid, strings.Join(m.Options, ",")))
			}
			for _, b := range p.binds {
				got.Binds = append(got.Binds, strings.TrimSpace(b.name+" "+b.source+flagsOf(b)))
			}
			got.Mounts = lines(p.mounts)
			for _, d := range p.devices {
				got.Devices = append(got.Devices, fmt.Sprintf("%s %s %o %d:%d %s ro=%v", d.Path, d.Access, d.Mode, d.Uid, d.Gid, d.disk, d.disk.readOnly))
			}
			var want outcome
			decode(t, base+".out.json", &want)
			if !slices.Equal(got.Binds, want.Binds) || !reflect.DeepEqual(got.Join, want.Join) ||
				!reflect.DeepEqual(got.Sysctls, want.Sysctls) || !slices.Equal(got.Tmpfs, want.Tmpfs) ||
				!slices.Equal(got.Mounts, want.Mounts) || !slices.Equal(got.Devices, want.Devices) || !sameJSON(t, got.Spec, want.Spec) {
				all, _ := json.MarshalIndent(got, "", "  ")
				t.Errorf("got %s", all)
			}
		})
	}
}

// outcome is a plan as the golden files have it.
type outcome struct {
	Spec    json.RawMessage   `json:"spec"`
	Binds   []string          `json:"binds"`
	Join    map[string]string `json:"join,omitempty"`
	Sysctls map[string]string `json:"sysctls,omitempty"`
	Tmpfs   []string          `json:"tmpfs,omitempty"`
	Mounts  []string          `json:"mounts,omitempty"`
	Devices []string          `json:"devices,omitempty"`
}

func flagsOf(b bind) (s string) {
	if b.readOnly {
		s += " ro"
	}
	if b.rec {
		s += " rec"
	}
	return s
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

// What no VM can give is refused with a sentence that says what.
func TestPlanRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*specs.Spec)
		says string
	}{
		"hostNetwork": {func(s *specs.Spec) { s.Linux.Namespaces = without(s, specs.NetworkNamespace) }, "hostNetwork"},
		"hostPID":     {func(s *specs.Spec) { s.Linux.Namespaces = without(s, specs.PIDNamespace) }, "hostPID"},
		"hostIPC":     {func(s *specs.Spec) { s.Linux.Namespaces = without(s, specs.IPCNamespace) }, "hostIPC"},
		"Bidirectional": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "bind", Source: "/b", Options: []string{"rbind", "rshared"}}}
		}, "mount of /a has Bidirectional propagation"},
		"relative source": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Source: "b", Options: []string{"bind"}}}
		}, `source "b" of the mount of /a is not absolute`},
		"disk": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "xfs", Source: "/dev/sda"}}
		}, `mount of /a is of type "xfs"`},
		"disk that propagates": {func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/a", Type: "ext4", Source: "/dev/sda", Options: []string{"rshared"}}}
		}, "mount of /a has Bidirectional propagation"},
		"device": {func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/sda", Type: "b", Major: 8}, {Path: "/dev/kvm", Type: "c", Major: 10, Minor: 232}}
		}, "device /dev/kvm (c 10:232) is the host's"},
		"memory of the kernel": {func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/mem", Type: "c", Major: 1, Minor: 1}}
		}, "device /dev/mem"},
		"PID namespace of a stranger": {func(s *specs.Spec) {
			s.Linux.Namespaces = append(without(s, specs.PIDNamespace), specs.LinuxNamespace{Type: specs.PIDNamespace, Path: "/proc/7/ns/pid"})
		}, "pid namespace is /proc/7/ns/pid"},
		"mount namespace": {func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.MountNamespace, Path: "/proc/1/ns/mnt"})
		}, "mount namespace is /proc/1/ns/mnt"},
		"no root": {func(s *specs.Spec) { s.Root = nil }, "no root"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &specs.Spec{
				Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{},
				Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
					{Type: specs.NetworkNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				}},
			}
			if _, err := planFor("c1", "/bundle", place{"/share/c1", "/disks/1"}, nil, s); err != nil {
				t.Fatalf("without the edit: %v", err)
			}
			c.edit(s)
			p, err := planFor("c1", "/bundle", place{"/share/c1", "/disks/1"}, nil, s)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v, %v; want %q", p, err, c.says)
			}
		})
	}
}

func without(s *specs.Spec, kind specs.LinuxNamespaceType) []specs.LinuxNamespace {
	return slices.DeleteFunc(slices.Clone(s.Linux.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == kind })
}

// A container in a VM is not restored from a checkpoint, which is said before
// anything is read or booted.
func TestRestoreRefused(t *testing.T) {
	_, err := New(Config{}).Create(t.Context(), &oci.CreateRequest{ID: "c", Restore: new(oci.RestoreRequest)})
	if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("restore: %v", err)
	}
}
