// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net"
	"os"

	"berth/sandbox/agentapi"
	"berth/sandbox/remote"
	"berth/sandbox/vm"
	"berth/sandbox/vm/network"
)

var _ remote.Disker = machine{}

// machine is a vm.Machine as a pod wants one.
type machine struct {
	*vm.Machine
	state   state
	left    traces
	network *agentapi.NetworkRequest
	late    *network.Late // nil unless the network may come later
	taken   *taken
	// loopback takes connections to the loopback interface of the pod's namespace.
	loopback []net.Listener
}

// taken is what became of a network that came later. It belongs to the one who is
// in LateNetwork.
type taken struct {
	done bool
	err  error // for good: some of it may be in the machine
}

var (
	_ remote.LateNetworker = machine{}
	_ remote.Forwarder     = machine{}
)

// Loopback is whoever takes them's to close.
func (m machine) Loopback() []net.Listener { return m.loopback }

// LateNetwork is what has come into a namespace that was made with the machine,
// which then has a NIC for each interface. It is called by one at a time.
func (m machine) LateNetwork(ctx context.Context) (*agentapi.NetworkRequest, error) {
	if m.late == nil || m.taken.done || m.taken.err != nil {
		return nil, m.taken.err
	}
	come, err := m.late.Take(m.FreePorts())
	if come == nil || err != nil {
		return nil, err
	}
	defer come.Close()
	for _, n := range come.NICs {
		if m.taken.err = m.AddNIC(ctx, vm.NIC{Tap: n.Tap, MAC: n.MAC}); m.taken.err != nil {
			return nil, m.taken.err
		}
	}
	m.taken.done = true
	return come.Request, nil
}

// Close lets go of the machine, and of what was noted for others to do so.
func (m machine) Close(ctx context.Context) error {
	if err := m.Machine.Close(ctx); err != nil {
		return err
	}
	for _, l := range m.loopback {
		_ = l.Close() // or somebody took them, who did
	}
	if m.late != nil {
		if err := m.late.Close(); err != nil {
			return err
		}
	}
	if m.left.Network != nil {
		if err := m.left.Network.Remove(); err != nil {
			return err
		}
	}
	return m.state.remove()
}

// Network is the pod's; a guest has nothing to do for one that is empty.
func (m machine) Network() *agentapi.NetworkRequest {
	if len(m.network.Interfaces) == 0 {
		return nil
	}
	return m.network
}

// AddDisk gives the machine a disk.
func (m machine) AddDisk(ctx context.Context, serial string, f *os.File, readOnly bool) error {
	return m.Machine.AddDisk(ctx, vm.Disk{Serial: serial, File: f, ReadOnly: readOnly})
}

func (m machine) Conn() io.ReadWriteCloser { return m.Transport() }

// Limit has the machine be limited as its pod is.
func (m machine) Limit(ctx context.Context, l remote.Limits) error {
	return m.Machine.Limit(ctx, vm.Limits(l))
}

func (m machine) Kill(why error) { m.Machine.Kill(why.Error()) }

func (m machine) Err() error {
	switch exit := m.Exit(); {
	case exit == nil:
		return nil
	case exit.Reason == vm.HostOOM, exit.Reason == vm.GuestOOM:
		return outOfMemory{exit}
	default:
		return exit
	}
}

// outOfMemory is the exit of a machine that had too little.
type outOfMemory struct{ *vm.Exit }

func (outOfMemory) Is(target error) bool { return target == remote.ErrOutOfMemory }
