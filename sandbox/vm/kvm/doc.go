// SPDX-License-Identifier: Apache-2.0

// Package kvm tells whether this host's KVM runs guests.
//
// That /dev/kvm is there and opens says little: where virtualisation is nested
// or filtered a machine can often be made, and then does not run, or runs a
// thousand times slower than an emulator would. Seen with a KVM for
// paravirtualised guests (kvm_pvm, Linux 6.18): the first instructions are right,
// and Debian's kernel prints nothing in ten seconds, because everything in kernel
// mode is interpreted. [Try] makes a machine with one CPU, has it run a loop in
// long mode, at the addresses of a kernel, and compares what was counted. On a
// CPU the loop takes some 10 ms; there it does not come to an end in a second.
//
// What does not belong here: how machines are run; QEMU does that.
package kvm
