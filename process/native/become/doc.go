// SPDX-License-Identifier: Apache-2.0

// Package become makes of a program that runc's library has run again, with the
// argument "init", the process of a container. A program that has the package in
// it needs no more for that, and gets no further: it happens in the package's
// initialisation, before main.
//
// It is a package of its own, and has a name that comes early, for the sake of
// what is not initialised before it: Go initialises next, of the packages whose
// imports are, the one whose path is the first (sortInitTasks of cmd/link). With
// the overlay of scripts/runtime that leaves protobuf and containerd's API to
// those that have a use for them.
//
// What does not belong here: whatever would have to be imported for it.
package become
