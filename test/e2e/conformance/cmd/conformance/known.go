// SPDX-License-Identifier: Apache-2.0

package main

// Reasons that several entries share. A number is an issue of
// containerd/containerd.
const (
	runtimeInline = "the exit loop and every call on a container wait for the runtime (#13814, #13849, #13378)"
	plainError    = "an error without a class, so Unknown"
	groupSocket   = "only the socket of a shim without a group is removed, and only by Shutdown"
)

// takesMinutes names the own tests that are skipped without -long. No other may be.
var takesMinutes = map[string]bool{"own EventsWhileAwayForLong": true}

// knownOfControl names the own tests that containerd-shim-runc-v2 of containerd
// 2.4.2 is known to fail.
var knownOfControl = map[string]string{
	"own BootstrapLegacy/options":            "refuses a containerd up to 2.2 (#13910)",
	"own BootstrapLegacy/empty":              "refuses a containerd up to 2.2 (#13910)",
	"own TaskV2":                             "serves Task v3 alone",
	"own SocketRemoved/group":                groupSocket,
	"own SocketRemoved/killed":               groupSocket,
	"own EventsWhileAway":                    "a publisher that waits for containerd holds up exec and wait (pkg/shim/publisher.go: 5 s for each attempt)",
	"own EventsWhileAwayForLong":             "a publisher that waits for containerd holds up exec and wait, and drops an event after five attempts",
	"own HungRuntimeSparesNeighbours/delete": runtimeInline,
	"own HungCallSparesItself/kill":          runtimeInline,
	"own HungCallSparesItself/pause":         runtimeInline,
	"own HungCallSparesItself/update":        runtimeInline,
	"own ClientLeaves/start":                 "sometimes the next client's start fails, its runtime killed, and the container then hangs (compare #11674)",
	"own ClientLeavesDelete":                 "answers nothing meanwhile, and then stays for nobody",
	"own EndAwaitsAnswers":                   "stays for nobody",
	"own StartTwice":                         plainError,
	"own StartAfterExit":                     plainError,
	"own DeleteOfRunning":                    plainError,
	"own DoubleCreate":                       plainError,
	"own Unknown":                            plainError,
	"own BadBundle/truncated":                plainError,
	"own BadBundle/missing":                  plainError,
	"own BadBundle/rootfs-symlink":           plainError,
	"own BadID":                              "an exec id is used as a file name, unchecked",
}
