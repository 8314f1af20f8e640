// SPDX-License-Identifier: Apache-2.0

// Package driver chooses how the OCI runtime of a container is driven: by the
// library that is linked into this program, or by a command line.
//
// What does not belong here: how either works (see process/native and
// process/oci). It is apart from package shim because the vm shim, whose
// containers are a guest's, links neither cgo nor the library.
package driver
