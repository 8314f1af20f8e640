// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"berth/configs"
	"berth/process"
	"berth/process/native"
	"berth/process/oci"
	"berth/sandbox"
	"berth/shim"
)

func configured(d configs.Driver, err error) func() (configs.Shim, error) {
	return func() (configs.Shim, error) { return configs.Shim{Runtime: configs.ShimRuntime{Driver: d}}, err }
}

// The runtime that a container gets is the one of its options, or else of the
// host's configuration, and keeps its state where they say, apart for each
// namespace.
func TestRuntimeOfOptions(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"runc", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sup := process.NewSupervisor()
	defer sup.Close()
	runc, other := filepath.Join(dir, "runc"), filepath.Join(dir, "other")
	const root = "/run/containerd/runc/ns"
	for name, tc := range map[string]struct {
		driver  configs.Driver
		options configs.Runtime
		command string // "" is native
		root    string
	}{
		"native":  {configs.Native, configs.Runtime{}, "", root},
		"systemd": {configs.Native, configs.Runtime{SystemdCgroup: true, Root: "/r"}, "", "/r/ns"},
		"command": {configs.Command, configs.Runtime{}, runc, root},
		"name":    {configs.Native, configs.Runtime{BinaryName: "other", Root: "/r", SystemdCgroup: true}, other, "/r/ns"},
		"runc":    {configs.Native, configs.Runtime{BinaryName: "runc"}, runc, root},
		"path":    {configs.Command, configs.Runtime{BinaryName: other}, other, root},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := New(dir, configured(tc.driver, nil)).New(shim.RuntimeConfig{Supervisor: sup, Options: tc.options, Namespace: "ns", Bundle: "/b"})
			if err != nil {
				t.Fatal(err)
			}
			cli := &oci.CLI{}
			switch got := got.(type) {
			case *native.Driver:
				cli.Root, cli.Dir, cli.SystemdCgroup = got.Root, got.Dir, got.SystemdCgroup
				if runc, err := got.Command(); err != nil || runc.Root != tc.root || runc.Dir != "/b" {
					t.Errorf("its command line is %+v, %v", runc, err)
				}
			case *oci.CLI:
				cli = got
			}
			if cli.Binary != tc.command || cli.Root != tc.root || cli.SystemdCgroup != tc.options.SystemdCgroup || cli.Dir != "/b" {
				t.Errorf("got %+v of %T, want %+v", cli, got, tc)
			}
		})
	}
	_, err := New(dir, configured(configs.Native, nil)).New(shim.RuntimeConfig{Supervisor: sup, Options: configs.Runtime{BinaryName: "missing"}})
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a runtime that is not there: %v", err)
	}
}

// A configuration that is not right makes no containers, and keeps none from
// being deleted.
func TestWrongConfiguration(t *testing.T) {
	wrong := errors.New("wrong")
	sup := process.NewSupervisor()
	defer sup.Close()
	rt, err := New("", configured("", wrong)).New(shim.RuntimeConfig{Supervisor: sup, Options: configs.Runtime{Root: t.TempDir()}, Namespace: "ns"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Create(t.Context(), &oci.CreateRequest{ID: "a", Bundle: t.TempDir()}); !errors.Is(err, wrong) {
		t.Errorf("create: %v", err)
	}
	if err := rt.Delete(t.Context(), "a", false); !errdefs.IsNotFound(err) {
		t.Errorf("delete: %v", err)
	}
	if _, ok := rt.(sandbox.Checkpointer); !ok {
		t.Error("it is no Checkpointer")
	}
}
