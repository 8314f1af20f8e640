// SPDX-License-Identifier: Apache-2.0

package main

// upstreamTests are the tests of github.com/containerd/shimtest v0.3.0, by
// suite. Each runs in a process of its own: one that hangs (the control hangs in
// net/OutboundTCP) does not take the others with it, and the suite's check for
// leaked shims tells which test leaked.
var upstreamTests = []upstreamTest{
	{"run", "Lifecycle"},
	{"run", "InitExitCodes"},
	{"run", "OutputThenExit"},
	{"run", "Events"},
	{"run", "FastExitInit"},
	{"exec", "Exec"},
	{"exec", "StdioRoundTrip"},
	{"exec", "LargeStdioRoundTrip"},
	{"exec", "Clock"},
	{"exec", "ExitCodes"},
	{"exec", "LargeFileRead"},
	{"exec", "BindMountRead"},
	{"exec", "FastExitOutput"},
	{"exec", "ExecOutputDrainAfterExit"},
	{"exec", "ExecDiscardIO"},
	{"exec", "ExecCommandNotFound"},
	{"net", "OutboundTCP"},
	{"net", "OutboundUDP"},
	{"oom", "OOM"},
	{"transfer", "TransferCopyTo"},
	{"transfer", "TransferCopyToAndFrom"},
	{"transfer", "TransferExecVerify"},
	{"uds", "UDSRoundTrip"},
	{"layers", "HundredLayers"},
}

// upstreamStress are the tests that run for as long as they are given.
var upstreamStress = []upstreamTest{
	{"stress", "Lifecycle"},
	{"stress", "Exec"},
}

// leftOut names what is not run and why; it is printed.
var leftOut = []string{
	"upstream net/DNSResolve: needs the internet",
	"upstream stress/Transfer: the control has no transfer service",
}

// failsEverywhere says why an upstream test cannot pass on a shim for OCI
// runtimes. Whether it does is still looked at, and compared.
var failsEverywhere = map[string]string{
	"upstream net/OutboundTCP":  stdinStaysOpen,
	"upstream net/OutboundUDP":  stdinStaysOpen,
	"upstream stress/Exec":      stdinStaysOpen,
	"upstream uds/UDSRoundTrip": "needs mounts of the type uds, which an OCI runtime has not",
}

const stdinStaysOpen = "wants the end of stdin without CloseIO; a shim keeps stdin open, so that a client can attach again"

// upstreamTest names a test of an upstream suite.
type upstreamTest struct{ suite, test string }
