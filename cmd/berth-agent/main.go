// SPDX-License-Identifier: Apache-2.0

// Command berth-agent is PID 1 of a guest of the vm shim.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"berth/process"
	"berth/process/native"
	"berth/sandbox/agent"
	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

func main() {
	// As PID 1 there is nothing to return to: the kernel's panic ends the
	// machine, and what was said is in the host's error.
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "berth-agent:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	port, err := agent.Inherited(args)
	if err == nil && port == nil {
		port, err = begin()
	}
	if err != nil {
		return err
	}
	supervisor := process.NewSupervisor()
	if err := supervisor.ReapOrphans(); err != nil {
		return err
	}
	if err := os.MkdirAll(bundles, 0o700); err != nil {
		return err
	}
	for {
		renewed, err := serve(port, supervisor)
		switch {
		case !errors.Is(err, mux.ErrOver):
			fmt.Fprintln(os.Stderr, "berth-agent:", err)
			return agent.PowerOff() // the host hung up
		case renewed:
			return agent.Again(port)
		}
	}
}

// begin makes the guest.
func begin() (*os.File, error) {
	port, err := agent.Init(os.Stderr)
	if err == nil {
		_, err = agent.MountShare()
	}
	return port, err
}

const bundles = "/run/berth/bundles"

// serve does what the host asks, until it hangs up or says bye: then there will
// be another session. It is true for a guest that has been renewed.
func serve(port *os.File, supervisor *process.Supervisor) (bool, error) {
	session := mux.Guest(port, mux.Config{})
	if err := session.Handshake(context.Background()); err != nil {
		return false, err
	}
	var renewed atomic.Bool
	err := agent.Serve(context.Background(), session, agent.Config{
		Supervisor: supervisor, Dir: bundles, Share: agentapi.ShareDir, Network: true,
		Disks: agent.SCSIDisks{}, DiskDir: agentapi.DiskDir, TmpfsDir: agentapi.TmpfsDir,
		Runtime: func(bundle string) agent.Runtime {
			return &native.Driver{Root: "/run/runc", Dir: bundle, Supervisor: supervisor}
		},
		Renew: func(r *agentapi.RenewRequest) error {
			renewed.Store(true)
			return agent.Renew(r)
		},
		SetClock: agent.SetClock,
		PowerOff: func() { _ = session.Close() },
	})
	return renewed.Load(), err
}
