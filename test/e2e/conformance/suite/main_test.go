// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// Flags can only be declared before the testing package parses them.
var (
	shimFlag    = flag.String("shim", "", "path of the shim binary to test")
	runtimeFlag = flag.String("runtime", "", "path of the OCI runtime")
	fakeFlag    = flag.String("fakeoci", "", "path of the fake OCI runtime")
	payloadFlag = flag.String("payload", "", "path of the program that containers run")
	longFlag    = flag.Bool("long", false, "also run what takes minutes")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// As containerd's client does.
	const prefix = "types.containerd.io"
	major := fmt.Sprint(specs.VersionMajor)
	typeurl.Register(&specs.Process{}, prefix, "opencontainers/runtime-spec", major, "Process")
	typeurl.Register(&specs.LinuxResources{}, prefix, "opencontainers/runtime-spec", major, "LinuxResources")
	typeurl.Register(&features.Features{}, prefix, "opencontainers/runtime-spec", major, "features", "Features")
	os.Exit(m.Run())
}
