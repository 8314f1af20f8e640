// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
)

// origin is where a machine's memory comes from: nowhere, for one that boots by
// itself, which is the zero value; or from a file, for a template and its clones.
// A template has no more devices than all its clones have: what differs among
// those comes later, into ports.
type origin struct {
	// memory is the file, of the machine's size. The caller keeps it.
	memory *os.File
	// state is, for a clone, what its template's devices were like.
	state *os.File
	// private has the clone's writes go elsewhere than to the file.
	private bool
	// sharing is true if clones will not write to the file itself.
	sharing bool
}

// ports are how many devices a machine can be given that has ports: a clone its
// share, and NICs.
const ports = 4

// hasPorts is true for a template, a clone, and a machine that is to have NICs later.
func (c *Config) hasPorts() bool { return c.origin.memory != nil || c.LaterNICs }

// hotplug has the guest itself serve the ports: a microvm's firmware does not
// (Documentation/admin-guide/kernel-parameters.txt, pcie_ports).
const hotplug = " pcie_ports=native"

func (o origin) clone() bool { return o.state != nil }

// idle is true for a template: nobody waits for it.
func (o origin) idle() bool { return o.memory != nil && !o.clone() }

// portsCmdline is what the kernel of a guest with ports is told.
func (c *Config) portsCmdline() string {
	if !c.hasPorts() {
		return ""
	}
	return hotplug
}

// reporting is whether the guest tells which pages are free. QEMU would then
// make holes in the file (exec.c, ram_block_discard_range), which clones that
// share it cannot.
func (o origin) reporting() string {
	if o.sharing {
		return "off"
	}
	return "on"
}

func (c *Config) portArguments() (args []string) {
	if !c.hasPorts() {
		return nil
	}
	for i := range ports {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=port%d,chassis=%d,slot=%d", i, i+1, i+1))
	}
	return args
}

// memoryBackend is the machine's memory. It is shared, because virtiofsd works
// in it, but for a clone that must not write to its template's.
func (c *Config) memoryBackend(fds *descriptors) string {
	if c.origin.memory == nil {
		return fmt.Sprintf("memory-backend-memfd,id=memory,size=%dM,share=on", c.MemoryMiB)
	}
	share := "on"
	if c.origin.private {
		share = "off"
	}
	return fmt.Sprintf("memory-backend-file,id=memory,size=%dM,share=%s,mem-path=/proc/self/fd/%d",
		c.MemoryMiB, share, fds.add(c.origin.memory))
}
