// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main

// step is what the ledger calls after each change on disk: nothing. The crash tests build the
// helper with another file in this one's place.
func step() func(string) { return nil }
