// SPDX-License-Identifier: Apache-2.0

// Package shim speaks containerd's runtime v2 protocol and nothing else.
//
// One program plays three roles, told apart by the last word of its command
// line. `start` is run by containerd for a new container: it finds the group
// (pod) the container belongs to, joins the shim that serves the group or
// begins one, replies where it listens, and ends. The shim is the very process
// that did this, where it can let go of who ran it ([Env].Stay), or else the
// program without a word, with the listening socket as descriptor 3. `delete` is run
// after the shim of a container has gone, or while it shuts down, and
// finishes what is left. [Main] is the entry of all of them.
//
// # What lies beside the socket
//
// The socket is <dir>/<sha256>; <dir> is /run/containerd/s unless containerd
// names another. Beside it lie <sha256>.json, which says what program serves
// the socket and in which version of the protocol, and for the length of a
// start or a shutdown <sha256>.lock. They lie there, and not in a directory
// of their own, because `start` knows exactly this path before it knows
// anything else of the group, and because one directory has to be removed
// or kept in a tmpfs, not two. Whoever changes any of them holds the lock.
//
// # Events
//
// [Publisher] writes an event to a journal before it forwards it, in order,
// to containerd. See its comment for what is promised.
//
// What does not belong here: what a container is (package sandbox), and any
// state that must outlive a call.
package shim
