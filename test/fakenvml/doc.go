// SPDX-License-Identifier: Apache-2.0

// Package fakenvml is NVIDIA's management library for tests: a libnvidia-ml.so.1 in C that any
// program can load, with a machine of fake GPUs behind it.
//
// [Build] compiles the library. The machine is a [State] in a file that all processes share: the
// one that $BERTH_FAKE_NVML names, else fakenvml.state beside the library, for programs that are
// started without an environment. The library reads it anew, under flock(2), at every call, so a
// test can change the machine under a running program with [State.Write], and sees what a
// program changed with [Read].
//
// There is what discovery needs, and MIG: profiles and placements as on the real GPUs, instances
// with the driver's ids, and its errors for a place that is taken, an instance in use, a caller
// who is not root. Who uses an instance is found as the driver finds it, by who has its node open,
// and calls can take as long as on hardware. MIG UUIDs of created instances are random, as the real ones. Events, ECC and
// field values are NOT_SUPPORTED.
//
// A [Rule] makes one symbol fail, lie, wait, stop the process first, or end it once the work is done;
// kills it at the N-th call of any; has a foreigner be faster at a place. A symbol that a
// driver is too old to have is left out by [Build], which is the only way to have it missing.
//
// The library's C is checked against NVIDIA's nvml.h, which comes with the Go module go-nvml.
package fakenvml
