// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"berth/configs"
	"berth/process"
	"berth/process/oci"
)

// The runtime that a container gets is the one of its options, and keeps its state
// where they say, apart for each namespace.
func TestRuntimeOfOptions(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"runc", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	sup := process.NewSupervisor()
	defer sup.Close()
	other := filepath.Join(dir, "other")
	for name, tc := range map[string]struct {
		options configs.Runtime
		want    oci.CLI
	}{
		"none": {configs.Runtime{}, oci.CLI{Binary: filepath.Join(dir, "runc"), Root: "/run/containerd/runc/ns"}},
		"all":  {configs.Runtime{BinaryName: "other", Root: "/r", SystemdCgroup: true}, oci.CLI{Binary: other, Root: "/r/ns", SystemdCgroup: true}},
		"path": {configs.Runtime{BinaryName: other}, oci.CLI{Binary: other, Root: "/run/containerd/runc/ns"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := OCIRuntime{Path: dir}.New(RuntimeConfig{Supervisor: sup, Options: tc.options, Namespace: "ns", Bundle: "/b"})
			if err != nil {
				t.Fatal(err)
			}
			cli, ok := got.(*oci.CLI)
			if !ok || cli.Binary != tc.want.Binary || cli.Root != tc.want.Root || cli.SystemdCgroup != tc.want.SystemdCgroup || cli.Dir != "/b" {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
	_, err := OCIRuntime{Path: dir}.New(RuntimeConfig{Supervisor: sup, Options: configs.Runtime{BinaryName: "missing"}})
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a runtime that is not there: %v", err)
	}
}
