// SPDX-License-Identifier: Apache-2.0

// Command bench compares a shim with containerd-shim-runc-v2 over the shim protocol:
// one run, the two alternating, the same OCI runtime, no containerd.
//
// It measures the phases of a container's life, 50 pods at once, execs from 16
// clients, and the memory of idle shims. Every number is a median; a ratio is
// the shim's by the control's, less is better. Nothing that it prints comes from
// one sample.
//
// With -check it measures memory and binary size alone and fails beyond the
// project's budget, see budget.go.
package main
