// SPDX-License-Identifier: Apache-2.0

// Package sandbox is what runs in this pod, and the order in which it is told.
//
// A [Pod] holds containers, a [Container] holds its init and its execs. Each
// of those processes goes through the states of one table (state.go):
//
//	            start            exit
//	created ----------> running ------> stopped --delete--> (gone)
//	   |                 |   ^              ^
//	   |           pause |   | resume       |
//	   |                 v   |              |
//	   |                paused -----exit----+
//	   +---------------exit-----------------+
//
// # Ordering
//
// For every process: create < start < exit < delete. Every exec's exit
// precedes its init's exit. An OOM precedes the exit that it explains. The
// events of one container reach the sink in the order in which they happened.
// What is enforced where:
//
//   - A start that is under way when its init dies is waited for, bounded, so
//     that its start event comes first (Container.superviseInit).
//   - The watcher of an exec begins after its start event was queued
//     (Container.startExec).
//   - An init's exit is queued after its cgroup was killed and its execs were
//     seen to end or, after a bound, were declared killed
//     (Container.superviseInit, Container.settleExecs).
//   - The kernel's counter of OOM kills is read before an exit by SIGKILL is
//     queued (Container.queueExitLocked).
//   - The record of an exit is in the bundle before State, Wait or an event
//     tells of it (Container.superviseInit).
//
// # Locks
//
// Container.mu guards the state of all processes of one container and is held
// only to read and write memory. Slow calls are serialised by gates: one a
// container for the verbs that change it as a whole, one an exec. Kill, State,
// Wait, Pids and Stats pass no gate. Nothing is serialised for the pod as a
// whole. Order: gate, then Pod.mu, then Container.mu.
//
// # Kernels
//
// A [Runtime] makes containers on this kernel, unless it is a [Kernel] too: they
// are then on another, a guest's. Whatever a pod needs of the kernel, it asks
// the Kernel for. The states and the order are the pod's alone, here: the other
// side has none.
//
// What does not belong here: protobuf, containerd's way of calling, and the
// command line of a runtime.
package sandbox
