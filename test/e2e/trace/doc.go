// SPDX-License-Identifier: Apache-2.0

// Command trace draws where the time of a container's life goes, as an SVG: each
// call of containerd, and under it every process that anybody starts for it, from
// fork to exit.
//
// It lives through some lives of a container over the shim protocol, with the
// kernel telling of every fork, exec and exit (the proc connector of netlink,
// linux/cn_proc.h), and draws of each phase the life in which that took the
// median. It also prints what of each phase is spent while a process started for
// it runs, and what is the shim's own.
package main
