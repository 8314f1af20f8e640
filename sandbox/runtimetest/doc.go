// SPDX-License-Identifier: Apache-2.0

// Package runtimetest is the test that every sandbox.Runtime has to pass: a pod
// over it with real processes, seen as a client sees it. What it finds on one
// kernel it has to find on any.
//
// What does not belong here: what a runtime is asked for in which order, which
// is tested with a fake one in package sandbox.
package runtimetest
