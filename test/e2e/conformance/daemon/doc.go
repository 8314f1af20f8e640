// SPDX-License-Identifier: Apache-2.0

// Package daemon plays containerd's part towards one shim binary: it makes
// bundles, executes the "start" and "delete" commands as containerd 2.4 does
// (core/runtime/v2/command.go), receives events on its ttrpc socket, and calls
// the Task service. No containerd runs.
//
// A [Daemon] owns one private directory, in which everything lies that it and
// its shims make. Close ends what still runs there; [Daemon.Leftovers] tells
// what a well-behaved shim would not have left.
//
// What does not belong here: judgement. The callers are a conformance suite and
// a benchmark, and both run it against more than one shim.
package daemon
