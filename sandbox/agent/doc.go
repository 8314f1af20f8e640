// SPDX-License-Identifier: Apache-2.0

// Package agent is the guest's side of a machine: PID 1, and what serves the
// host's requests.
//
// [Init] makes a usable system of a kernel that has just unpacked the
// initramfs: file systems, modules, the loopback interface, and the port to
// the host. [PowerOff] ends it. The host ends the machine by hanging up, so the
// owner of the port powers off when it reads the end of the stream; a host that
// has died can thus not leave a machine behind. If PID 1 itself ends the kernel
// panics, which ends the machine too (panic=-1 and QEMU's -no-reboot).
//
// What does not belong here: anything that runs on the host.
package agent
