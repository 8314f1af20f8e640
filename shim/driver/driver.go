// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"path/filepath"
	"sync"

	"berth/configs"
	"berth/process"
	"berth/process/native"
	"berth/process/oci"
	"berth/sandbox"
	"berth/shim"
)

// defaultRoot is where containerd's own shim keeps runc's state, so that
// `runc --root /run/containerd/runc/NAMESPACE list` shows all containers.
const defaultRoot = "/run/containerd/runc"

// Runtimes makes the runtime of each container. Its methods are those that
// shim.Parts and shim.Env want.
type Runtimes struct {
	path   string
	config func() (configs.Shim, error)
}

// New takes a list of directories as in $PATH, where a runtime without a slash
// in its name is looked for, and what reads the host's configuration, which is
// called once.
func New(path string, config func() (configs.Shim, error)) *Runtimes {
	return &Runtimes{path: path, config: sync.OnceValues(config)}
}

// New is the runtime for one container. A configuration that is not right is
// told to containers that are to be made; those that are there can be ended
// all the same.
func (r *Runtimes) New(cfg shim.RuntimeConfig) (sandbox.Runtime, error) {
	conf, err := r.choose(cfg.Options)
	root := filepath.Join(rootOf(cfg.Options), cfg.Namespace)
	command := func() (*oci.CLI, error) {
		cli, err := r.cli(cfg.Supervisor, cfg.Options)
		if err != nil {
			return nil, err
		}
		cli.Root, cli.Dir = root, cfg.Bundle
		return cli, nil
	}
	if conf == configs.Command {
		cli, err := command()
		if err != nil {
			return nil, err
		}
		return cli, nil
	}
	d := &native.Driver{
		Root: root, Dir: cfg.Bundle, SystemdCgroup: cfg.Options.SystemdCgroup,
		Supervisor: cfg.Supervisor, Command: command,
	}
	if err != nil {
		return refusing{d, err}, nil
	}
	return d, nil
}

// Features is what the runtime can do, as JSON.
func (r *Runtimes) Features(ctx context.Context, o configs.Runtime) ([]byte, error) {
	sup := process.NewSupervisor()
	defer sup.Close()
	command := func() (*oci.CLI, error) { return r.cli(sup, o) }
	conf, err := r.choose(o)
	switch {
	case err != nil:
		return nil, err
	case conf == configs.Native:
		return (&native.Driver{Command: command}).Features(ctx)
	}
	cli, err := command()
	if err != nil {
		return nil, err
	}
	return cli.Features(ctx)
}

// choose says how a container's runtime is driven: a name is that of a command.
func (r *Runtimes) choose(o configs.Runtime) (configs.Driver, error) {
	if o.BinaryName != "" {
		return configs.Command, nil
	}
	conf, err := r.config()
	return conf.Runtime.Driver, err
}

func (r *Runtimes) cli(sup *process.Supervisor, o configs.Runtime) (*oci.CLI, error) {
	name := o.BinaryName
	if name == "" {
		name = "runc"
	}
	binary, err := oci.Find(name, r.path)
	if err != nil {
		return nil, err
	}
	return &oci.CLI{Binary: binary, Root: rootOf(o), SystemdCgroup: o.SystemdCgroup, Supervisor: sup}, nil
}

func rootOf(o configs.Runtime) string {
	if o.Root == "" {
		return defaultRoot
	}
	return o.Root
}
