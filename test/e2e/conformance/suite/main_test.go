// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"flag"
	"os"
	"testing"

	"berth/test/e2e/conformance/daemon"
)

// Flags can only be declared before the testing package parses them.
var (
	shimFlag    = flag.String("shim", "", "path of the shim binary to test")
	nameFlag    = flag.String("name", "berth", "what the names of daemons, and so of cgroups, begin with")
	runtimeFlag = flag.String("runtime", "", "path of the OCI runtime")
	fakeFlag    = flag.String("fakeoci", "", "path of the fake OCI runtime")
	payloadFlag = flag.String("payload", "", "path of the program that containers run")
	guestFlag   = flag.String("guest", "", "directory of the guest image, for a shim whose containers are in virtual machines")
	longFlag    = flag.Bool("long", false, "also run what takes minutes")
)

func TestMain(m *testing.M) {
	flag.Parse()
	daemon.RegisterTypes()
	os.Exit(m.Run())
}
