// SPDX-License-Identifier: Apache-2.0

// Package oracle asks NVIDIA's own library, nvcdi, what a container gets of a driver, and compares
// that with what Berth plans on the same machine.
//
// The machines are fakes of test/fakedriver with test/fakenvml as their NVML. nvcdi reads /proc and
// /sys by absolute paths: it runs in a process of its own, in a mount namespace where the fake's are
// over the real ones. Its hooks are read as data, for their arguments say which links are to be
// made; none is run.
//
// Both answers become a set of [item]s. Each difference must match a row of the table in
// docs/gpu-parity.md, and each row must match a difference: the table is what the test reads.
//
// It is a module of its own, so that a dependency of this test is none of the product's. It has no
// code but tests.
package oracle
