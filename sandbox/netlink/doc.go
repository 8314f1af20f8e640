// SPDX-License-Identifier: Apache-2.0

// Package netlink speaks rtnetlink with the kernel (rtnetlink(7)): requests
// that are answered by an acknowledgement, and dumps.
//
// A [Conn] stays in the network namespace in which it was made, whichever
// thread uses it. It is for one goroutine at a time. An error of the kernel's is
// its errno, with the sentence that it gave for it if there is one.
//
// It is the few messages that a shim and an agent need and no more: the usual
// library (github.com/vishvananda/netlink) would cost either 0.7 MiB, and the
// agent's is memory of every guest.
//
// What does not belong here: what a message means.
package netlink
