// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"os"
	"path/filepath"
	"testing"

	"berth/configs"
	"berth/process"
	"berth/process/oci"
	"berth/sandbox"
	"berth/sandbox/runtimetest"
)

// The runtime on this kernel passes the test of all runtimes.
func TestThisKernel(t *testing.T) {
	runc := os.Getenv("BERTH_RUNC")
	if runc == "" {
		t.Skip("BERTH_RUNC does not name a runc")
	}
	runtimetest.Run(t, func(t *testing.T) runtimetest.Host {
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
				return &oci.CLI{Binary: runc, Root: root, Dir: bundle, Supervisor: sup}, nil
			},
		}
	})
}
