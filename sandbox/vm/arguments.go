// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"strings"
)

// descriptors are what a program inherits, from 0 on.
type descriptors []*os.File

// add returns the number that a file will have.
func (d *descriptors) add(f *os.File) int {
	*d = append(*d, f)
	return len(*d) - 1
}

// ends are the machine's ends of its connections.
type ends struct {
	agent, monitor, console *os.File
	share                   *os.File // nil without a share
}

// arguments is QEMU's command line. Whatever has a descriptor gets it here.
//
// The machine is QEMU's microvm, whose devices are virtio-mmio. acpi=on: the
// guest finds them in the ACPI tables, because distributions' kernels do not
// read them from the command line. The transports must not be legacy, or
// vhost-user devices do not work. There is no firmware but QEMU's own, no PCI
// but for templates, clones and devices that are passed through, no USB, no
// display, and no default device.
func (c *Config) arguments(accel Accel, e ends, fds *descriptors) ([]string, error) {
	machine := "microvm,acpi=on,rtc=on,isa-serial=on,usb=off,auto-kernel-cmdline=off," +
		"memory-backend=memory,dump-guest-core=off,mem-merge=off,pcie=" + c.pcie()
	cpu, accelerator := "host", string(accel)
	if accel == TCG {
		accelerator += fmt.Sprintf(",tb-size=%d", translationMiB)
		// Without these timers an emulated guest stops early in its boot; with
		// KVM it has kvmclock.
		machine += ",pit=on,pic=on"
		// rep movsb is emulated byte by byte, and what has ERMS copies and clears
		// memory with it: without, 8 bytes at a time.
		cpu = "max,erms=off"
	} else {
		machine += ",pit=off,pic=off"
	}
	args := []string{
		"-name", "guest=" + c.ID + ",debug-threads=on",
		"-machine", machine, "-accel", accelerator, "-cpu", cpu,
		"-m", fmt.Sprintf("%dM", c.MemoryMiB), "-smp", fmt.Sprintf("cpus=%d", c.CPUs),
		"-object", c.memoryBackend(fds),
		"-global", "virtio-mmio.force-legacy=false",
		"-nodefaults", "-no-user-config", "-display", "none",
		// A panic, a triple fault and a reboot all end QEMU.
		"-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", fds.add(e.monitor)), "-mon", "chardev=monitor,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", fds.add(e.console)), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d", fds.add(e.agent)),
		"-device", "virtio-serial-device,max_ports=2", "-device", "virtserialport,chardev=agent,name=agent",
		"-device", "virtio-scsi-device,id=scsi",
		"-device", "virtio-balloon-device,id=balloon,deflate-on-oom=on,free-page-reporting=" + c.origin.reporting(),
		"-device", "virtio-rng-device",
	}
	if c.origin.clone() {
		args = append(args, "-incoming", "defer")
	} else {
		line, err := c.cmdline(accel)
		if err != nil {
			return nil, err
		}
		args = append(args, "-kernel", c.Image.Kernel, "-initrd", c.Image.Initramfs, "-append", line)
	}
	args = append(args, c.portArguments()...)
	// A clone's devices are not those of its template: they come later, into
	// ports (plug).
	if e.share != nil {
		args = append(args, "-chardev", fmt.Sprintf("socket,id=share,fd=%d", fds.add(e.share)))
		if !c.origin.clone() {
			args = append(args, "-device", "vhost-user-fs-device,chardev=share,tag="+ShareTag)
		}
	}
	for i, n := range c.NICs {
		args = append(args, "-netdev", fmt.Sprintf("tap,id=nic%d,fd=%d,vhost=off", i, fds.add(n.Tap)))
		if !c.origin.clone() {
			args = append(args, "-device", fmt.Sprintf("virtio-net-device,netdev=nic%d,mac=%s", i, mac(n)))
		}
	}
	return append(args, c.vfioArguments()...), nil
}

// baseCmdline is what every guest's kernel is told. Nothing here may have the kernel
// not clear a page that it gives out (init_on_alloc, which distributions have on): what
// virtiofsd then writes to one QEMU does not see, and would go on running code that
// it has translated from what was there before.
const baseCmdline = "console=ttyS0 quiet panic=-1 reboot=t"

// emulatedWord has the agent spare an emulated CPU changes of the address space
// (sandbox/agent). The kernel passes over a word with a dot that means no module's.
const emulatedWord = "berth.emulated"

// cmdline is the command line of the guest's kernel.
func (c *Config) cmdline(accel Accel) (string, error) {
	line := baseCmdline + c.portsCmdline()
	if accel != TCG {
		return line, nil
	}
	khz, err := tscKHz()
	// Without a second clock to compare with, a guest distrusts its TSC as soon
	// as the host is busy, and counts ticks instead: it then has no timer below
	// 4 ms, and its clock runs late.
	return fmt.Sprintf("%s tsc_early_khz=%d clocksource=tsc tsc=reliable %s", line, khz, emulatedWord), err
}

func mac(n NIC) string { return strings.ToLower(n.MAC.String()) }
