// SPDX-License-Identifier: Apache-2.0

// Package oci drives the command line of one OCI runtime: runc, crun, or another that takes
// runc's flags.
//
// # Calls
//
// Every call is one process of the runtime, started by the [process.Supervisor] with an
// environment, a working directory and descriptors that are spelled out; nothing is taken
// from the shim or from the container. The context bounds the call: when it ends, the runtime
// and the helpers below it are killed and reaped, and the error says which verb it was and
// how long it had run. Nothing here retries, and nothing waits for anything but the runtime's
// own exit: descriptors that a container inherited are never read to their end.
//
// # Processes
//
// [CLI.Create] and [CLI.Exec] return the process that the runtime made, adopted by the
// supervisor; a [process.Hold] covers the time in between. When a step after the runtime's
// success fails, or the context ends, what was made is undone: nothing is left that nobody
// owns. The caller gives the streams and attaches them (process.Streams.Attach) once the
// call has returned.
//
// # Errors
//
// The message of the runtime itself, from its JSON log or else from its stderr, is the
// error: "OCI runtime create failed: <message>". What the message says about a container's
// state becomes errdefs.ErrNotFound, ErrAlreadyExists or ErrFailedPrecondition in classify,
// the one place that looks at text; all else stays unclassified.
//
// What does not belong here: the state of a container, which verbs it allows, and the order
// of calls (see sandbox).
package oci
