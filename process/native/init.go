// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"

	_ "github.com/opencontainers/cgroups/devices" // lets cgroup managers set device rules
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // joins namespaces before the Go runtime runs
)

// initArg is what libcontainer runs this program with, to become a container's
// process.
const initArg = "init"

// IsInit tells whether this program was run to become a container's process.
func IsInit(args []string) bool {
	return len(args) == 2 && args[1] == initArg && os.Getenv("_LIBCONTAINER_SYNCPIPE") != ""
}

// Init becomes a container's process. It does not return.
func Init() { libcontainer.Init() }
