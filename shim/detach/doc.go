// SPDX-License-Identifier: Apache-2.0

// Package detach has a program that containerd runs with the action `start`
// leave a child behind without a second program start.
//
// Before the Go runtime begins, while the process has one thread and nothing in
// it yet, it forks (detach.c). The child becomes a Go program, does what `start`
// does, and writes its reply. The parent has no Go runtime and waits: it ends
// with the child and with the child's exit code, or with success as soon as the
// child calls what [Stay] returned. So whoever runs `start` sees a program that
// answers and ends, and the shim has begun by then.
//
// Until the child stays it dies with its parent: who kills `start` has killed
// all of it.
//
// It takes a program with cgo. In one without, and in one that was not run for
// `start`, nothing is forked and Stay returns nil.
//
// What does not belong here: what `start` does, and what the child is to be.
package detach
