// SPDX-License-Identifier: Apache-2.0

// Package rootfs reads and writes files of a container's root file system
// before the container runs.
//
// The root file system is hostile: each name in it is the image's. A path that
// is given to a method is absolute and clean and means what it would mean inside
// of the container: the kernel resolves it with openat2(2) below the root, so a
// symbolic link leads nowhere else, and never through a magic link of /proc.
// What is mounted below the root is not entered, neither to read nor to write:
// a volume may be alive, and is somebody else's.
//
// A change opens the parent directory first and acts in it by one name that is
// not followed: a file that is written replaces what had its name, in one
// rename(2). Only regular files are opened, and none before it is known to be
// one: opening a device or a FIFO has effects of its own.
//
// New files belong to the container's root, also where the host's root is not
// mapped in the mount (idmapped mounts): they are made with its fsuid and fsgid.
//
// Life: [Open], any method from any goroutine, [Root.Close]. Two writers of one
// path are the caller's to keep apart.
//
// Errors keep the kernel's number: errors.Is finds unix.EROFS, unix.ELOOP,
// unix.EXDEV (a mount is in the way) and os.ErrNotExist. A path that is not
// absolute and clean is errdefs.ErrInvalidArgument; what is there and is not of
// the kind asked for is errdefs.ErrFailedPrecondition; a kernel without openat2
// is errdefs.ErrNotImplemented.
//
// What does not belong here: what the files mean (see gpu/loader).
package rootfs
