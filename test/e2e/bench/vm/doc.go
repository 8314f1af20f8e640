// SPDX-License-Identifier: Apache-2.0

// Command vm measures the vm shim against its goals, over the shim protocol:
// one run, one machine after the other, no containerd.
//
// Every number is a median of n samples, shown with its goal. It says what ran
// the guests: what is emulated (TCG) says little of what KVM does. A goal that is
// missed is told, and is no failure: no machine is promised. A clone that was none
// is one.
package main
