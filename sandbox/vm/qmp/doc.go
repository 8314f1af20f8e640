// SPDX-License-Identifier: Apache-2.0

// Package qmp speaks QEMU's machine protocol (docs/interop/qmp-spec.txt of its
// sources) over a connected socket.
//
// A [Client] is live from [Dial], which takes the greeting and enters command
// mode, until the peer hangs up, says something that is not QMP, or Close.
// Commands may be given from any goroutine; each waits for its own answer, for
// as long as its context allows. Events are handed to one function, in order,
// by the goroutine that reads: it must not block and must not give commands.
//
// The peer runs hostile code. A message is at most 1 MiB, at most 64 commands
// wait at a time, and nothing that it sends is kept beyond an answer that
// somebody waits for.
//
// What does not belong here: which commands there are.
package qmp
