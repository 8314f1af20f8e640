// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"path/filepath"

	"berth/configs"
	"berth/process"
	"berth/process/oci"
	"berth/sandbox"
)

// defaultRoot is where containerd's own shim keeps runc's state, so that
// `runc --root /run/containerd/runc/NAMESPACE list` shows all containers.
const defaultRoot = "/run/containerd/runc"

// OCIRuntime makes runtimes that drive the command line of runc, or of what
// the options name instead. Its methods are those that Parts and Env want.
type OCIRuntime struct {
	// Path is where a runtime without a slash in its name is looked for, a
	// list as in $PATH.
	Path string
}

// New is the runtime for one container.
func (r OCIRuntime) New(cfg RuntimeConfig) (sandbox.Runtime, error) {
	cli, err := r.cli(cfg.Supervisor, cfg.Options)
	if err != nil {
		return nil, err
	}
	cli.Root = filepath.Join(cli.Root, cfg.Namespace)
	cli.Dir = cfg.Bundle
	return cli, nil
}

// Features is what the runtime says it can do, as JSON.
func (r OCIRuntime) Features(ctx context.Context, o configs.Runtime) ([]byte, error) {
	sup := process.NewSupervisor()
	defer sup.Close()
	cli, err := r.cli(sup, o)
	if err != nil {
		return nil, err
	}
	return cli.Features(ctx)
}

func (r OCIRuntime) cli(sup *process.Supervisor, o configs.Runtime) (*oci.CLI, error) {
	name, root := o.BinaryName, o.Root
	if name == "" {
		name = "runc"
	}
	if root == "" {
		root = defaultRoot
	}
	binary, err := oci.Find(name, r.Path)
	if err != nil {
		return nil, err
	}
	return &oci.CLI{Binary: binary, Root: root, SystemdCgroup: o.SystemdCgroup, Supervisor: sup}, nil
}
