// SPDX-License-Identifier: Apache-2.0

// Package gpu puts NVIDIA GPUs into containers by editing their OCI spec
// before the runtime sees it, with nothing on the host but the driver.
//
// # The path of one container
//
// [ParseRequest] reads from the spec what the container asks for, by order of
// trust. [Discover] reads which GPUs the host has, afresh each time, and
// [LoadFiles] which files make up its driver, from a cache that is keyed by
// what can change them. [Plan] decides from these what the container gets,
// each entry with its reason; [Hook] writes the plan into the spec and, once
// the root file system is mounted, into the loader's cache of the container.
// A container that asks for nothing keeps its spec byte for byte.
//
// # Sharing
//
// A container that asks for it joins the MPS daemon of its pod ([HeldMPS],
// berth/gpu/mps) once its devices are known, and leaves it when it is deleted,
// before MIG devices that were made for it are given back: the daemon's server
// has them open.
//
// # Trust
//
// The container's files and the environment that its image sets are hostile.
// Nothing is executed with them, nothing of the root file system is ever the
// source of a mount, and it is written only through berth/gpu/rootfs. What
// names a device must match a strict grammar before it touches a path.
//
// # Errors
//
// A request that cannot be met is errdefs.ErrInvalidArgument (it is wrong),
// errdefs.ErrNotFound (no such GPU, no driver) or errdefs.ErrFailedPrecondition
// (the host is not in a state for it). Each says what was asked, what was
// found and what to do.
//
// What does not belong here: NVML and cgo, which are berth-gpu's alone; how a
// hook is called (see hooks); how an exit is told (see sandbox).
package gpu
