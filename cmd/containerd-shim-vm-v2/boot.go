// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"berth/configs"
	"berth/process"
	"berth/sandbox/remote"
	"berth/sandbox/vm"
	"berth/sandbox/vm/image"
)

// boot makes the machine of a pod.
func boot(ctx context.Context, conf configs.VM, sup *process.Supervisor, id string, r remote.BootRequest) (remote.Machine, error) {
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
	own := conf.UIDBase + os.Getpid()
	m, err := vm.Boot(ctx, vm.Config{
		ID: id, Supervisor: sup, Image: img, Accel: accel, MemoryMiB: memory, CPUs: cpus,
		Share: r.Share, QEMU: conf.QEMU, Virtiofsd: conf.Virtiofsd,
		Launcher: []string{self, launchArg}, UID: own, GID: own,
	})
	if err != nil {
		return nil, err
	}
	return machine{m}, nil
}

// machine is a vm.Machine as a pod wants one.
type machine struct{ *vm.Machine }

func (m machine) Conn() io.ReadWriteCloser { return m.Transport() }

func (m machine) Kill(why error) { m.Machine.Kill(why.Error()) }

func (m machine) Err() error {
	if exit := m.Exit(); exit != nil {
		return exit
	}
	return nil
}
