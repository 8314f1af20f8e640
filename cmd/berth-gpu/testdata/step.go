// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Command berth-gpu is, as the crash tests build it, with this file in the place of its step.go: it dies by
// SIGKILL after so many changes of the ledger on disk.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func step() func(string) {
	left, err := strconv.Atoi(os.Getenv("BERTH_CRASH_STEP"))
	if err != nil {
		return nil
	}
	return func(string) {
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // no instruction later than the kill
		}
	}
}
