// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-pod-v2 is a containerd shim that runs all containers
// of a pod over an OCI runtime.
package main

import (
	"os"

	"berth/hooks"
	"berth/shim"
)

// Set by the linker.
var version, revision = "devel", "unknown"

func main() {
	runtime := shim.OCIRuntime{Path: os.Getenv("PATH")}
	parts := shim.Parts{
		Runtime: runtime.New,
		Hooks:   func(shim.HooksConfig) hooks.Chain { return hooks.Chain{hooks.Sanity{}} },
	}
	os.Exit(shim.Main(shim.Env{
		Args: os.Args, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Name: "containerd-shim-pod-v2", RuntimeType: "io.containerd.pod.v2",
		Version: version, Revision: revision,
		Serve: parts.Serve, Delete: parts.Delete, Features: runtime.Features,
	}))
}
