// SPDX-License-Identifier: Apache-2.0

// Package integration drives a private containerd, by its Go client, ctr and
// crictl, and checks what its users see of a shim.
//
// Each test runs for io.containerd.pod.v2 and, as a control, for
// io.containerd.runc.v2: a test that the control fails is wrong, unless the failure
// is one of the control's known ones, which the test names. -runtimes picks some;
// -driver and -group are of the pod shim's configuration, and all that holds by
// default holds with the others, but for what a test that they skip says.
// When all are done nothing may be left on the machine; see node.Stop.
//
// What needs a shim without a containerd is in package conformance.
package integration
