// SPDX-License-Identifier: Apache-2.0

// Package agent is the guest's side of a pod: PID 1, and what makes the
// containers that the host asks for, over the same process, oci and cgroup
// packages as a shim on the host.
//
// [Serve] serves the calls of agentapi on one stream of a session, joins the
// streams of processes to others, and tells of exits and OOM kills on a third.
// What order that has to have, and what was asked before, is the host's to
// know: there are no states here, only what there is. An exit is told when it
// happened, whatever becomes of the output, which Drain waits for; it counts
// the OOM kills that came before it.
//
// [Init] makes a usable system of a kernel that has just unpacked the
// initramfs: file systems, modules, the loopback interface, and the port to
// the host. [PowerOff] ends it. The host ends the machine by hanging up, so the
// owner of the port powers off when it reads the end of the stream; a host that
// has died can thus not leave a machine behind. If PID 1 itself ends the kernel
// panics, which ends the machine too (panic=-1 and QEMU's -no-reboot).
//
// [SetUpNetwork] makes the guest's network what the pod's is, once, before there
// are containers. Names, addresses and routes are the host's word.
//
// What does not belong here: anything that runs on the host.
package agent
