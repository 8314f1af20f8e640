// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"berth/configs"
	"berth/process"
	"berth/sandbox/template"
	"berth/sandbox/vm"
	"berth/sandbox/vm/image"
)

// launchArg makes the shim the launcher of a machine's programs.
const launchArg = "enter-jail"

// bare measures a clone that has all that a shim gives one and has answered its
// calls, and in which no container has run. A shim does not keep one: its first
// container is on the way when it asks for it.
func (b *bench) bare(ctx context.Context) (retErr error) {
	img, err := image.Open(b.options.guest)
	if err != nil {
		return err
	}
	share := filepath.Join(b.dir, "share")
	if err := os.Mkdir(share, 0o755); err != nil {
		return err
	}
	sup := process.NewSupervisor()
	defer sup.Close()
	conf := configs.DefaultVM()
	own := conf.UIDBase + os.Getpid()
	c := vm.Config{
		ID: "bare", Supervisor: sup, Image: img, Accel: []vm.Accel{vm.KVM, vm.TCG}, MemoryMiB: bareMemoryMiB, CPUs: conf.CPUs,
		QEMU: conf.QEMU, Virtiofsd: conf.Virtiofsd, Launcher: []string{b.options.shim, launchArg}, UID: own, GID: own,
	}
	tpl, err := template.Make(ctx, c, b.options.template == string(configs.SharedTemplate))
	if err != nil {
		return err
	}
	defer tpl.Close()
	c.Share = share
	m, err := template.Clone(ctx, c, tpl, c.ID)
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, m.Close(context.WithoutCancel(ctx))) }()
	return everySecond(ctx, func() error {
		own, err := monitorMemory(m.Pid())
		if err != nil {
			return fmt.Errorf("a clone that idles: %w", err)
		}
		b.report.addMonitor(own, bareClone)
		return nil
	})
}

// bareMemoryMiB is that of the daemon's machines.
const bareMemoryMiB = 256
