// SPDX-License-Identifier: Apache-2.0

// Package hooks edits a container's OCI spec on its way to the runtime and undoes the effect
// on its way out.
//
// # Lifecycle
//
// [LoadSpec] reads a bundle's config.json once. [Chain.Create] shows the spec to each hook in
// order, every hook seeing what the previous ones left, and then writes it back. When a hook
// or the write fails, the hooks applied so far are deleted in reverse order and the container
// must not be created. [Chain.Delete] runs in reverse order and joins the errors: one hook
// that cannot clean up does not keep the others from it.
//
// What a hook has to do in the root file system it registers in Create with [Spec.AfterMount];
// [Chain.Mounted] does it once that is mounted, before the runtime sees the container.
//
// Delete is by container id alone and idempotent, because after a shim has died it runs in a
// fresh process that never saw Create, and may run twice.
//
// # Bytes
//
// A spec that no hook changed keeps its config.json byte for byte. In a changed one only what
// a hook touched differs: fields that this build does not know are kept.
//
// # Errors
//
// A spec that cannot be accepted is errdefs.ErrInvalidArgument, and the message names the
// field, what was found in it and what is allowed. A missing config.json is
// errdefs.ErrNotFound.
//
// What does not belong here: what a hook injects (see gpu), and when in a container's life
// the chain runs (see sandbox).
package hooks
