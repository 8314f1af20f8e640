// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/shimtest"

	"berth/test/e2e/conformance/daemon"
)

// A flag can only be declared before flag.Parse, which the testing package
// calls before TestMain or any test has control.
var (
	shimFlag = flag.String("shim", "", "path of the shim binary to test")
	// The suites call a container after the test, and the runtime its cgroup after
	// the container: runs at the same time must not take each other's for their own.
	nameFlag = flag.String("name", "run", "what the names of the tests have in them, unique on the host")
	skipFlag = flag.String("suites.skip", "", "comma-separated suites not to run")
)

func TestMain(m *testing.M) {
	flag.Parse()
	daemon.RegisterTypes() // the suites send a specs.Process
	os.Exit(m.Run())
}

func TestShim(t *testing.T) {
	if *shimFlag == "" {
		t.Skip("no -shim given: run by the conformance command")
	}
	config := shimtest.Config{ShimBinary: *shimFlag}
	skip := strings.Split(*skipFlag, ",")
	suites := []struct {
		name string
		run  func(*testing.T)
	}{
		{"run", shimtest.NewRunSuite(config).Run},
		{"exec", shimtest.NewExecSuite(config).Run},
		{"net", shimtest.NewNetworkSuite(config).Run},
		{"oom", shimtest.NewOOMSuite(config).Run},
		{"transfer", shimtest.NewTransferSuite(config).Run},
		{"uds", shimtest.NewUDSSuite(config).Run},
		{"layers", shimtest.NewLayersSuite(config).Run},
		{"stress", shimtest.NewStressSuite(config, shimtest.StressOptions{}).Run},
	}
	t.Run(*nameFlag, func(t *testing.T) {
		for _, suite := range suites {
			t.Run(suite.name, func(t *testing.T) {
				if slices.Contains(skip, suite.name) {
					t.Skipf("suite %s left out by the caller", suite.name)
				}
				suite.run(t)
			})
		}
	})
}
