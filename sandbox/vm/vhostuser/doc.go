// SPDX-License-Identifier: Apache-2.0

// Package vhostuser lets virtiofsd serve a guest in whose memory it cannot work.
//
// A vhost-user device works in the guest's memory itself, which QEMU shares with
// it. The memory of a clone that has its template's cannot be shared: what a guest
// writes is QEMU's alone, and what virtiofsd would write every other clone had. So
// there is a [Relay] between them. To QEMU it is the device, and has the guest's
// memory through QEMU's own (/proc/PID/mem), so that what it writes is the clone's
// alone; to virtiofsd it is a monitor whose guest has a few requests in a small
// memory of their own. A request and its answer are copied once more for that, some
// microseconds beside the rest of its way.
//
// # Lifecycle
//
// [New] takes both connections. [Relay.Serve] answers QEMU until that hangs up, and
// is done when nothing of the relay runs any more. QEMU takes a queue back when it
// pauses or resets the device, and gets it when virtiofsd has answered what is
// under way.
//
// # Trust
//
// Guest and QEMU are hostile. Each address that a guest names has to be in a piece
// of memory that QEMU has named, and each that QEMU names means its own memory; a
// chain of descriptors has no more of them than its table, and a request no more
// bytes than its place. What is otherwise wrong ends the relay, and with it the machine.
// Of virtiofsd's answers the lengths are checked. The eventfds of both can be made to
// block at any time, so nothing waits in a call for one; the ring of a queue that runs
// cannot be changed, and the memory that virtiofsd has cannot be shortened.
//
// The protocol is docs/interop/vhost-user.rst of QEMU, the rings are those of
// virtio 1.1, 2.6 (split virtqueues).
//
// What does not belong here: FUSE, and who starts what (vm).
package vhostuser
