// SPDX-License-Identifier: Apache-2.0

// Command berth-agent is PID 1 of a guest of the vm shim.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"berth/process"
	"berth/process/oci"
	"berth/sandbox/agent"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

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
	if err := agent.MountShare(); err != nil {
		return err
	}
	if err := serve(port, supervisor); err != nil {
		fmt.Fprintln(os.Stderr, "berth-agent:", err)
	}
	return agent.PowerOff() // the host hung up
}

// serve does what the host asks, until it hangs up.
func serve(port io.ReadWriteCloser, supervisor *process.Supervisor) error {
	const bundles = "/run/berth/bundles"
	if err := os.MkdirAll(bundles, 0o700); err != nil {
		return err
	}
	session := mux.Guest(port, mux.Config{})
	if err := session.Handshake(context.Background()); err != nil {
		return err
	}
	return agent.Serve(context.Background(), session, agent.Config{
		Supervisor: supervisor, Dir: bundles, Share: agentapi.ShareDir, Network: true,
		Disks: agent.SCSIDisks{}, DiskDir: agentapi.DiskDir,
		Runtime: func(bundle string) agent.Runtime {
			return &oci.CLI{Binary: "/bin/runc", Root: "/run/runc", Dir: bundle, Supervisor: supervisor}
		},
		PowerOff: func() { _ = session.Close() },
	})
}
