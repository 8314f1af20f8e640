// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-pod-v2 is a containerd shim that runs all containers
// of a pod over an OCI runtime.
package main

import (
	"os"

	"berth/configs"
	"berth/hooks"
	"berth/shim"
	"berth/shim/detach"
	"berth/shim/driver"
)

// Set by the linker.
var version, revision = "devel", "unknown"

func main() {
	config := func() (configs.Shim, error) { return configs.LoadShim(configs.ShimPath(os.Getenv)) }
	runtimes := driver.New(os.Getenv("PATH"), config)
	parts := shim.Parts{
		Runtime: runtimes.New,
		Hooks:   func(shim.HooksConfig) hooks.Chain { return hooks.Chain{hooks.Sanity{}} },
	}
	os.Exit(shim.Main(shim.Env{
		Args: os.Args, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Name: "containerd-shim-pod-v2", RuntimeType: "io.containerd.pod.v2",
		Config: config, Version: version, Revision: revision,
		Serve: parts.Serve, Delete: parts.Delete, Features: runtimes.Features, Stay: detach.Stay(),
	}))
}
