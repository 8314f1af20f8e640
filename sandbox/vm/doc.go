// SPDX-License-Identifier: Apache-2.0

// Package vm boots a virtual machine that runs the agent, and ends it.
//
// # Lifecycle
//
// [Boot] starts virtiofsd, if there is something to share, and QEMU, and returns
// when QEMU answers. The guest comes up by itself; its agent is heard on
// [Machine.Transport]. A machine is live until Done is closed. That it is dead
// is known from the first of: QEMU's exit (pidfd), its event SHUTDOWN, the end of
// its monitor's connection, virtiofsd's exit, and Kill; [Machine.Exit] tells the
// cause, not what was noticed first. Nobody is asked on that path, neither the
// guest nor QEMU. [Machine.Close] waits for all processes and lets go of the rest.
//
// All methods may be called from any goroutine. Those that talk to QEMU end with
// their context, and fail at once when the machine is dead.
//
// # What a machine has
//
// Everything is handed over as a descriptor: monitor, console and agent's port
// as socketpairs, taps, disks (add-fd), virtiofsd's connection. Disks come and go
// at any time, are found by serial number, and there is no limit worth a name;
// interfaces and the share are there from the start, because a microvm cannot
// hotplug virtio-mmio devices, and so are devices that are passed through. A machine
// that has ports on a PCI Express bus can be given NICs later ([Machine.AddNIC]). Memory and CPUs are fixed too: only the balloon
// can take memory back.
//
// # Templates
//
// A machine of [BootTemplate] can be put on record ([Machine.Record]), and others
// be made of it ([Clone]). It has ports on a PCI Express bus, into which the clones
// get their share and NICs: those cannot be on record, or differ. Memory is in a
// file then, which is sealed with the record. A clone has a copy of it; or maps it
// for itself alone, of a template that was made for that, and virtiofsd then serves
// it through a relay (vhostuser). Everything in the guest is the template's until the caller changes it.
//
// # Confinement
//
// QEMU runs in a jail (sandbox/vm/jail): a user of its own, no capability and none
// to be had, a root with its libraries alone, namespaces of its own in the pod's
// network namespace, a limit of files and threads, no core dump. Its seccomp
// filter ends it (SIGSYS) if it starts a program. There is no limit of file sizes:
// memory is a file too, and there is no file system that it could write to.
// virtiofsd is in such a jail too, with what is shared in its root and no network. It
// is root, with the capabilities to act for the guest's users, and has a seccomp
// filter of its own, beside that of its jail which all of its threads begin with; what it is not given is any capability to mount, for which its
// own sandbox would need it (launch.go). The cgroup of both has a device filter. The
// guest is hostile: of what QEMU says, a guest's words included, every length is
// bounded, and how often the console is read.
//
// # Measured
//
// QEMU 7.2 under TCG, guest kernel Debian 6.1, one CPU of 160 MiB, on two shared
// cores. Boot to the agent's first word took 1.6 s when they were idle and 2.1 to
// 2.5 s with a load of 20; 0.1 s of that until QEMU answers, 0.4 s in the agent,
// nearly all for its 18 modules, the rest in the kernel. 160 MiB is room enough for
// runc: 78 MiB are available in the guest. A request to the agent and back takes
// 0.2 ms. QEMU has 170 MiB of private memory, of which the emulator's translated
// code is the larger part; virtiofsd has less than 1.1 MiB (PSS).
// A disk is added in 10 ms, seen by the guest after 37 ms and removed in 54 ms.
//
// From the cause to Done, on the same machine, idle and loaded:
//
//	QEMU killed                      25 to 35 ms
//	virtiofsd killed                 39 to 82 ms (50 of them to be sure that it was not QEMU)
//	kernel panic by sysrq            38 to 56 ms
//	agent ended (a panic)            39 to 62 ms
//	reboot, power off                30 to 51 ms
//	host hung up the agent's port    32 to 52 ms
//	Kill, of a live guest            28 ms
//	Kill, of a deaf one              30 to 123 ms
//	Kill, of a stopped QEMU          23 to 57 ms
//
// When the owner itself is killed, QEMU and virtiofsd are gone 26 ms later.
//
// What does not belong here: what is said over the transport, which knows
// nothing of machines; how an image is built; pods.
package vm
