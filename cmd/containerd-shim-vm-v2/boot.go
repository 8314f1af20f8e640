// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/configs"
	"berth/process"
	"berth/sandbox/remote"
	"berth/sandbox/vm"
	"berth/sandbox/vm/image"
)

// booter makes the machine of one pod.
type booter struct {
	conf  configs.VM
	sup   *process.Supervisor
	id    string // of the pod
	state state
}

func (b booter) boot(ctx context.Context, r remote.BootRequest) (remote.Machine, error) {
	conf := b.conf
	img, err := image.Open(conf.Image)
	if err != nil {
		return nil, err
	}
	memory, cpus, err := conf.Size(r.Spec.Annotations)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the launcher: %w", err)
	}
	var accel []vm.Accel
	for _, a := range conf.Accel {
		accel = append(accel, vm.Accel(a))
	}
	network, err := openNetwork(r.Spec)
	if err != nil {
		return nil, err
	}
	if network != nil {
		defer func() { _ = network.Close() }()
	}
	own := conf.UIDBase + os.Getpid()
	m, err := vm.Boot(ctx, vm.Config{
		ID: b.id, Supervisor: b.sup, Image: img, Accel: accel, MemoryMiB: memory, CPUs: cpus,
		Share: r.Share, Network: network, QEMU: conf.QEMU, Virtiofsd: conf.Virtiofsd,
		Launcher: []string{self, launchArg}, UID: own, GID: own, Cgroup: cgroupsPath(r.Spec, b.id),
	})
	if err != nil {
		return nil, err
	}
	if loc, ok := m.Cgroup(); ok {
		if err := b.state.write(loc); err != nil {
			return nil, errors.Join(err, m.Close(context.WithoutCancel(ctx)))
		}
	}
	return machine{m, b.state}, nil
}

// openNetwork opens the pod's network namespace; nil if it has none of its own.
func openNetwork(spec *specs.Spec) (*os.File, error) {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace && ns.Path != "" {
			f, err := os.Open(ns.Path)
			if err != nil {
				return nil, fmt.Errorf("open the pod's network namespace: %w", err)
			}
			return f, nil
		}
	}
	return nil, nil
}

// cgroupsPath is where the machine goes: the place that the pod's first
// container has on the host and, its own being in the guest, does not use.
func cgroupsPath(spec *specs.Spec, id string) string {
	if path := spec.Linux.CgroupsPath; path != "" {
		return path
	}
	return "/berth/" + id
}

// machine is a vm.Machine as a pod wants one.
type machine struct {
	*vm.Machine
	state state
}

// Close lets go of the machine, and of what was noted for others to do so.
func (m machine) Close(ctx context.Context) error {
	if err := m.Machine.Close(ctx); err != nil {
		return err
	}
	return m.state.remove()
}

func (m machine) Conn() io.ReadWriteCloser { return m.Transport() }

func (m machine) Kill(why error) { m.Machine.Kill(why.Error()) }

func (m machine) Err() error {
	if exit := m.Exit(); exit != nil {
		return exit
	}
	return nil
}
