// SPDX-License-Identifier: Apache-2.0

// Package fakedriver builds, in a directory, what the file system of a machine with NVIDIA
// GPUs shows: good enough for NVIDIA's own discovery library, ldconfig, loaders and runc.
//
// [Build] makes the machine that a [Config] describes and [Driver.Close] removes it. Between
// the two [Driver.AddInstance], [Driver.RemoveInstance] and [Driver.Open] change what a
// running machine changes. A Driver is not for concurrent use. It needs root: the nodes are
// real ones, and ldconfig changes its root.
//
// [Driver.Root] is a whole root file system of a merged-usr distribution, with dev, proc and
// sys inside; it serves as driver root, as the parent of /dev, and for chroot(2). A program
// with absolute paths sees it in a mount namespace of its own with Sys bound over /sys, and
// Proc/driver and Proc/devices over theirs. It is some 800 small files: a directory in a tmpfs
// that allows devices is many times faster than one on a disk.
//
// # What differs from the simplest machine on purpose
//
//   - Minors are not in PCI order once there are two GPUs, and card 0 is the BMC's.
//   - NVML's index skips an excluded GPU, whose node and files exist all the same.
//   - /proc/devices has names that begin with the name of another.
//   - GI numbers are the caller's: a driver does not number them by placement.
//   - libGL, libEGL and libOpenCL lie beside the driver and are not part of it.
//   - Which libraries there are depends on the version: libnvidia-nvvm70 since 575,
//     libnvidia-vulkan-producer until 550.
//   - A node stays when the instance it belongs to is removed; its file does not.
//   - boot_id is another one at each build. UUIDs are the same at each build.
//
// # What it cannot be
//
// No driver stands behind the nodes: open(2) gives ENXIO where a device cgroup allows it, and
// EPERM where not. On a machine whose kernel has given the same major to something else (226
// with graphics, 195 with a real driver) it opens that. A container's own procfs does not
// show the fake /proc/driver/nvidia. Files of /proc are plain: writing to them does nothing,
// and nothing is locked.
//
// Texts of /proc follow the source of NVIDIA's open kernel modules; device numbers, names of
// libraries and bus ids follow published listings of real machines. Not verified on one: the
// video BIOS versions, H200's subsystem id, which capability directories exist before MIG is
// enabled, the modes in nvidia-nvlink, and the versions of the egl-xcb and egl-xlib libraries.
//
// testdata is the place for captures of real machines.
package fakedriver
