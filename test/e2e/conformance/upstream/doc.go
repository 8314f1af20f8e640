// SPDX-License-Identifier: Apache-2.0

// Package upstream holds one test that runs the suites of
// github.com/containerd/shimtest against the shim named by its flags. It is
// compiled and run by the conformance command, once for each shim, and is
// skipped in a plain "go test ./..." because there is no shim to test.
//
// The module's own runner (TestShim) is not used: it leaves out the network
// suite.
package upstream
