// SPDX-License-Identifier: Apache-2.0

// Package jail runs one program with nothing but what it was given.
//
// Who wants a program jailed starts a launcher instead, a program that calls
// [Enter], with [Namespaces] of its own and a [Spec] on a descriptor. Enter
// takes away, step by step, what the launcher had as root, and becomes the
// program; the process that was started is then the program itself. The order
// matters and is kept in one function: cgroup and root file system first, which
// need privilege; then limits and credentials; the death signal after the
// credentials, because a change of those clears it (prctl(2), PR_SET_PDEATHSIG).
//
// A program jailed that way has: a root file system of its own, read-only, in
// which only the paths and devices of the Spec are, its own processes if it is
// to see those, and what is shared, which may be written to; pid, mount, ipc and uts
// namespaces; a user and a group, and no other group; no capability, none in
// the bounding set, and no_new_privs, so that none can come back; limits; and
// the descriptors that were handed to it, and no other that its parent had.
//
// Its network namespace is one that exists, the one named or its parent's: a
// virtual machine's monitor belongs into its pod's, where tools look for it.
//
// With Filtered the program begins with a filter of system calls, which all of its
// threads have from their first instruction on.
//
// What does not belong here: filters made to one program's measure. QEMU and virtiofsd
// bring their own, which know what they call.
package jail
