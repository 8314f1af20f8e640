// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-gpu-v2 is a containerd shim that runs all containers
// of a pod over an OCI runtime, and gives NVIDIA GPUs to those that ask.
package main

import (
	"os"

	"berth/configs"
	"berth/gpu"
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
	parts := shim.Parts{Runtime: runtimes.New, Hooks: chain}
	os.Exit(shim.Main(shim.Env{
		Args: os.Args, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Name: "containerd-shim-gpu-v2", RuntimeType: "io.containerd.gpu.v2",
		Config: config, OnePod: true, Version: version, Revision: revision,
		Serve: parts.Serve, Delete: parts.Delete, Features: runtimes.Features, Stay: detach.Stay(),
	}))
}

// chain is that of the pod shim, and the injection of GPUs. A configuration
// that is not right is told to the containers that ask for one.
func chain(cfg shim.HooksConfig) hooks.Chain {
	conf, err := configs.LoadGPU(configs.GPUPath(os.Getenv))
	return hooks.Chain{hooks.Sanity{}, gpu.NewHook(conf, err, cfg.Namespace, cfg.Supervisor)}
}
