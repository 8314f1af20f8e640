// SPDX-License-Identifier: Apache-2.0

// Command containerd-shim-pod-v2 is a containerd shim that runs all containers
// of a pod over an OCI runtime.
package main

import (
	"context"
	"os"
	"path/filepath"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/process/oci"
	"berth/sandbox"
	"berth/shim"
)

// Set by the linker.
var version, revision = "devel", "unknown"

// defaultRoot is where containerd's own shim keeps runc's state, so that
// `runc --root /run/containerd/runc/NAMESPACE list` shows all containers.
const defaultRoot = "/run/containerd/runc"

func main() {
	parts := shim.Parts{Runtime: runtime, Hooks: chain}
	os.Exit(shim.Main(shim.Env{
		Args: os.Args, Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Name: "containerd-shim-pod-v2", RuntimeType: "io.containerd.pod.v2",
		Version: version, Revision: revision,
		Serve: parts.Serve, Delete: parts.Delete, Features: features,
	}))
}

func chain(shim.HooksConfig) hooks.Chain { return hooks.Chain{hooks.Sanity{}} }

func runtime(cfg shim.RuntimeConfig) (sandbox.Runtime, error) {
	rt, err := newCLI(cfg.Supervisor, cfg.Options)
	if err != nil {
		return nil, err
	}
	rt.Root = filepath.Join(rt.Root, cfg.Namespace)
	rt.Dir = cfg.Bundle
	return rt, nil
}

func newCLI(sup *process.Supervisor, o configs.Runtime) (*oci.CLI, error) {
	name, root := o.BinaryName, o.Root
	if name == "" {
		name = "runc"
	}
	if root == "" {
		root = defaultRoot
	}
	binary, err := oci.Find(name, os.Getenv("PATH"))
	if err != nil {
		return nil, err
	}
	return &oci.CLI{Binary: binary, Root: root, SystemdCgroup: o.SystemdCgroup, Supervisor: sup}, nil
}

func features(ctx context.Context, o configs.Runtime) ([]byte, error) {
	sup := process.NewSupervisor()
	defer sup.Close()
	rt, err := newCLI(sup, o)
	if err != nil {
		return nil, err
	}
	return rt.Features(ctx)
}
