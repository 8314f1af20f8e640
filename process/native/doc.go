// SPDX-License-Identifier: Apache-2.0

// Package native is runc without running runc: the library that runc is made
// of (github.com/opencontainers/runc/libcontainer), called in process. What is
// asked of it, what it says and what it leaves on disk are those of runc's
// command line: see package oci, beside which it stands. Containers of the one
// are the other's too, as long as both are of the same version.
//
// # Calls
//
// Every call reads the container's state from disk, as the command line does; an
// exec that finds the file as an earlier one did spares itself the decoding. It has
// a thread of its own that ends with the call: whatever the library does to the
// thread it runs on (namespaces, labels, affinity) goes with it. A
// panic fails the call, and what it had forked is killed. The library knows no
// context: when that of a call ends, what the thread has forked is killed, on
// which the call ends by itself; one that does not even then is left behind, and
// what it may yet make is undone. Start is not the library's, which waits on a
// thread that nothing ends.
//
// # Processes
//
// The library forks this very program, with the argument "init" (package
// become), from a view of its file that nobody can write (an overlay that is
// mounted nowhere: 0.2 ms a call and no memory; where the kernel refuses that, a
// sealed copy in memory: 4 ms); that program becomes the container's process. It
// waits for its own helpers through os/exec, which the supervisor spares while a
// call is under way ([process.Supervisor.Spare]): it tells them from the orphans
// of containers by the thread whose children they are, so that the first thread
// has to fork nothing, which it is kept from. What a hook leaves running looks like
// them, and waits as a zombie for the calls that were under way when it died. What
// a call has made is adopted before the call returns. The library sets no
// PR_SET_PDEATHSIG, so that its threads may end.
//
// What the library leaves in the program that called it, for good because its own
// ends with the call, goes with the last call under way: connections to the system
// bus, and a raised limit.
//
// What does not belong here: CRIU, whose part of the library has the size of
// all the rest; checkpoint and restore stay with the command line.
package native
