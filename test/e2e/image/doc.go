// SPDX-License-Identifier: Apache-2.0

// Package image writes the OCI images that tests and the demo run, without a registry.
//
// One layer holds a static busybox and its applets; two images share it: Demo, a
// shell, and Pause, which a CRI runtime runs to hold a pod's namespaces.
//
// Loading an image into a containerd does not belong here; see package node.
package image
