// SPDX-License-Identifier: Apache-2.0

// Package process starts, adopts, feeds and reaps processes on this kernel.
//
// # Reaping
//
// A [Supervisor] is the only owner of reaping in its program. Every process
// that it started or adopted is held by a pidfd, and its exit is taken by
// waitid(P_PIDFD) when the kernel says, through the pidfd, that there is one
// (pidfd_open(2)). Nothing is broadcast and nothing is looked up by pid, so an
// exit cannot be lost and cannot be given to another process that happens to
// have the same number later.
//
// Zombies that nobody owns, such as the grandchildren of a container in the
// host's PID namespace, re-parent to the supervisor when it is a subreaper
// ([Supervisor.ReapOrphans]). SIGCHLD serves as a hint to look for them, never
// as the news of an exit: they are found with WNOWAIT and reaped by pid. While a
// [Hold] is open one of them may be a container's init that died before it
// could be adopted, so how they ended is kept until the hold ends. Under a Spare
// one may be a child that other code of the program waits for: it waits for the
// Spares of that moment, and then is reaped all the same.
//
// # Lifecycle
//
// A [Process] is live from the moment it is returned until Done is closed;
// its exit is then fixed. Adopting a process that has already been reaped by
// somebody else gives a Process that is done and whose exit is not Known.
//
// # Streams
//
// [Streams] carries the standard streams of one process to where containerd
// wants them. It never makes a process's exit wait.
//
// What does not belong here: anything that knows what a container is.
package process
