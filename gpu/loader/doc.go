// SPDX-License-Identifier: Apache-2.0

// Package loader has a container's dynamic loader find the driver's libraries,
// without running anything of the container or of the host.
//
// [NewPlan] reads the root file system and says which files would change and
// why, [Plan.Apply] writes them, [Install] does both. All of it happens before
// the container exists. A plan for what is as it should be has no files.
//
//   - glibc: the libraries become entries of /etc/ld.so.cache, before the image's
//     own of the same name, of which none is lost; and their directories go into
//     [ConfFile], so that an ldconfig in the container keeps them.
//   - musl: the directories go to the front of /etc/ld-musl-<arch>.path.
//   - neither: nothing is written.
//
// A cache that glibc itself passes over, because it begins with no known magic,
// is replaced: no library was found through it. One that glibc would use and that
// is broken or of another version is an error, not replaced: libraries of the
// image outside of the default directories may be found through it alone, and a
// new cache without them would break the image in silence.
//
// Forward compatibility puts a directory of the image with a newer user-space
// driver first in the loader's order, and no more: a name in a text. No file of
// the root file system is ever mounted.
//
// [Parse] and [ReadLibrary] read hostile bytes: they check every offset, bound
// what they allocate by constants here, and refuse with errdefs.ErrInvalidArgument.
//
// What does not belong here: which libraries and directories (see gpu), and how
// paths are resolved (see gpu/rootfs).
package loader
