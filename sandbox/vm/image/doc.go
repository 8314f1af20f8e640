// SPDX-License-Identifier: Apache-2.0

// Package image is what a guest boots from: a kernel and an initramfs, in a
// directory whose file names are the hashes of their content.
//
// A directory holds any number of kernels and initramfs, and one description,
// image.json, that names the current pair. A file whose name is there is whole
// and never changes; only the description is replaced, by rename(2). So an
// image may be built while machines boot from the one before it.
//
// What does not belong here: how an image is built (sandbox/vm/image/build),
// which needs decompressors that no shim carries.
package image
