// SPDX-License-Identifier: Apache-2.0

// Package network hands a pod's network over to its machine: what the network
// namespace has, as whoever set it up left it, becomes the guest's.
//
// [Open] reads the namespace, makes a tap interface in it for each interface,
// and has the kernel redirect every frame that arrives at the one to the other:
// an ingress qdisc, a u32 filter that matches all, and the action mirred (the
// classifiers matchall and flower are not in every kernel). The addresses stay
// on the host's interfaces too, where CNI plugins and the CRI look for them;
// nothing reaches them there.
//
// A tap ends with its last descriptor, or with the namespace. What is on the
// pod's own interfaces is removed by [Record.Remove], in any process and any
// number of times. A Record is written down before the first redirect is made.
//
// What does not belong here: anything of a container's, and what the guest does
// with what it gets (package agent).
package network
