// SPDX-License-Identifier: Apache-2.0

// Package cgroup reads, watches and kills one control group.
//
// A [Cgroup] is opened while its first process is alive (after the runtime's
// create, when the init is stopped before its exec) and holds descriptors of
// the cgroup's directories and of each file that [Cgroup.Stats] reads. Nothing
// is looked up by path afterwards, so a cgroup that is removed and made again
// under the same name is never mistaken for the one that was opened. The
// record that [Cgroup.Location] returns lets another process [Load] it later.
//
// Life: Open or Load, any method from any goroutine, Close. When the kernel's
// cgroup has been removed, reads of it end with ENODEV; Stats and OOMKills then
// answer from the last counters seen, which every Stats, OOMKills, Snapshot and
// OOM watch refreshes. Methods that were under way when Close is called finish;
// later ones return errdefs.ErrNotFound, except OOMKills.
//
// Versions: on a v1 or hybrid host each controller has a directory of its own,
// and Stats speaks io.containerd.cgroups.v1.Metrics; on a v2 host there is one
// directory and io.containerd.cgroups.v2.Metrics. A controller that is not
// mounted leaves its part of the answer empty.
//
// Killing by cgroup is refused with errdefs.ErrFailedPrecondition where the
// container shares the caller's cgroup or an ancestor of it: that kill would
// end the shim, or the host.
//
// File formats: Documentation/admin-guide/cgroup-v1/ (memory.rst, cpuacct.rst,
// blkio-controller.rst, freezer-subsystem.rst, pids.rst, hugetlb.rst) and
// Documentation/admin-guide/cgroup-v2.rst in the kernel's sources.
//
// Limits are not set here: that is the OCI runtime's work.
package cgroup
