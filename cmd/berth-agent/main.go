// SPDX-License-Identifier: Apache-2.0

// Command berth-agent is PID 1 of a guest of the vm shim.
package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/sandbox/agent"
)

// Set by the linker.
var version, revision = "devel", "unknown"

func main() {
	// As PID 1 there is nothing to return to: the kernel's panic ends the
	// machine, and what was said is in the host's error.
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "berth-agent:", err)
		os.Exit(1)
	}
}

func run() error {
	port, err := agent.Init(os.Stderr)
	if err != nil {
		return err
	}
	supervisor := process.NewSupervisor()
	if err := supervisor.ReapOrphans(); err != nil {
		return err
	}
	if err := hello(port); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, port); err != nil {
		fmt.Fprintln(os.Stderr, "berth-agent: read from the host:", err)
	}
	return agent.PowerOff() // the host hung up
}

// hello says who is there, in one line.
func hello(w io.Writer) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "berth-agent %s (%s) on Linux %s\n", version, revision, unix.ByteSliceToString(uts.Release[:]))
	return err
}
