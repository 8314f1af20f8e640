// SPDX-License-Identifier: Apache-2.0

// Package compat runs one and the same shim program under every containerd line that
// Berth supports, by the ctr of each line and by crictl, and carries running
// containers from one line to the next and back.
//
// It has only tests. scripts/compat builds the versions; one that is not built is
// skipped. The shim is bin/containerd-shim-pod-v2, or the one that -shim names.
//
// The package does not use node.Node, which is one version of containerd with its Go
// client: what has to be shown here is what the older programs themselves do.
package compat
