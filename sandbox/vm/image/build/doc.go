// SPDX-License-Identifier: Apache-2.0

// Package build makes a guest image from a distribution's kernel package.
//
// The kernel is taken out of its bzImage, because an ELF file with a PVH entry
// (the Xen note XEN_ELFNOTE_PHYS32_ENTRY) starts without firmware and without
// decompressing itself: some 0.4 s less on an emulated CPU, and its pages are
// shared by all machines of the host. The initramfs has the agent as /init, the
// OCI runtime, and the modules that a guest needs with those that they need, in
// the order in which they must be loaded: there is neither depmod nor udev in it.
//
// What the kernel's configuration lacks is told all at once, each option with
// what it is needed for. The same inputs give the same bytes: entries are
// sorted, owners and times are 0.
//
// What does not belong here: where kernel packages come from (scripts/guest).
package build
