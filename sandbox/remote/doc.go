// SPDX-License-Identifier: Apache-2.0

// Package remote is a guest with an agent, seen as a sandbox.Runtime.
//
// A [Runtime] is that of one pod. Its guest is made with the first container and
// ended with the last. Whatever the guest says is bounded and checked: nothing
// of it is used as a path, a pid or an address here, and a guest that says what
// cannot be, or nothing any more, is ended. An end is an exit, by SIGKILL, of
// every process that was in it, and is told at once; the states, the exits and
// the way to delete are the pod's, on this side, and need no guest.
//
// What does not belong here: the states of containers, which are sandbox's; what
// runs in the guest, which is the agent's; and what a machine is made of.
package remote
