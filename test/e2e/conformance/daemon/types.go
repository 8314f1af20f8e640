// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// RegisterTypes gives the OCI types the names under which containerd's client
// sends them. A program calls it once, before anything else of this package.
func RegisterTypes() {
	const prefix = "types.containerd.io"
	major := fmt.Sprint(specs.VersionMajor)
	typeurl.Register(&specs.Process{}, prefix, "opencontainers/runtime-spec", major, "Process")
	typeurl.Register(&specs.LinuxResources{}, prefix, "opencontainers/runtime-spec", major, "LinuxResources")
	typeurl.Register(&features.Features{}, prefix, "opencontainers/runtime-spec", major, "features", "Features")
}
