// SPDX-License-Identifier: Apache-2.0

// Package suite holds the project's own conformance tests: the order and the
// attribution of exits, delivery of events, what is left after failures, bad
// input, the bootstrap and the standard streams. The conformance command
// compiles it once and runs it against every shim; the tests are skipped in a
// plain "go test ./...", where there is no shim to test.
//
// Every test has a daemon and a namespace of its own and ends with a look for
// what the shim left. Nothing is timed: a test waits for a fact, and a deadline
// only turns a hang into a failure.
package suite
