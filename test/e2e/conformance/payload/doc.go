// SPDX-License-Identifier: Apache-2.0

// Command payload is the static program that runs inside the containers of the
// conformance suite and of the benchmarks. Its first argument is a verb;
// payload.go lists them. What it does can be told from outside (an exit code, a
// FIFO that it opens, bytes on a stream), so that no test needs to sleep.
package main
