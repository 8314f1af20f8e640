// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"os"
	"path/filepath"
	"testing"

	"berth/configs"
	"berth/process"
	"berth/process/native"
	"berth/process/oci"
	"berth/sandbox"
	"berth/sandbox/runtimetest"
)

// The runtimes on this kernel pass the test of all runtimes.
func TestCommandLine(t *testing.T) {
	runc := os.Getenv("BERTH_RUNC")
	if runc == "" {
		t.Skip("BERTH_RUNC does not name a runc")
	}
	runtimetest.Run(t, func(t *testing.T) runtimetest.Host {
		return thisKernel(t, func(sup *process.Supervisor, root, bundle string) sandbox.Runtime {
			return &oci.CLI{Binary: runc, Root: root, Dir: bundle, Supervisor: sup}
		})
	})
}

func TestNative(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: namespaces and cgroups cannot be made")
	}
	runtimetest.Run(t, func(t *testing.T) runtimetest.Host {
		return thisKernel(t, func(sup *process.Supervisor, root, bundle string) sandbox.Runtime {
			return &native.Driver{Root: root, Dir: bundle, Supervisor: sup}
		})
	})
}

func thisKernel(t *testing.T, runtime func(sup *process.Supervisor, root, bundle string) sandbox.Runtime) runtimetest.Host {
	sup := process.NewSupervisor()
	t.Cleanup(sup.Close)
	if err := sup.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root")
	return runtimetest.Host{
		Supervisor: sup,
		Program:    "/bin/busybox",
		Runtime: func(_ configs.Runtime, bundle string) (sandbox.Runtime, error) {
			return runtime(sup, root, bundle), nil
		},
	}
}
