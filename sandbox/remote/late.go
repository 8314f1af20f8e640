// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"

	"berth/sandbox/agentapi"
)

// LateNetworker is a Machine whose network may come after it.
type LateNetworker interface {
	// LateNetwork is what the guest's is to be from now on, and has the machine have
	// its NICs; nil if none has come, or it was told before.
	LateNetwork(ctx context.Context) (*agentapi.NetworkRequest, error)
}

// takeNetwork gives the guest the network that has come since its machine was
// made. Who makes one then has it ready before the first Start.
func (r *guest) takeNetwork(ctx context.Context) error {
	machine, ok := r.machine.(LateNetworker)
	if !ok {
		return nil
	}
	select {
	case r.late <- struct{}{}:
		defer func() { <-r.late }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.untold == nil {
		var err error
		if r.untold, err = machine.LateNetwork(ctx); err != nil || r.untold == nil {
			return err
		}
	}
	// It stays untold after an error: no container starts without its network.
	plug := new(agentapi.PlugRequest)
	for _, i := range r.untold.Interfaces {
		if len(i.Mac) > 0 {
			plug.Macs = append(plug.Macs, i.Mac)
		}
	}
	if _, err := call(ctx, r, networkTimeout, "wait for the network's devices", r.agent.Plug, plug); err != nil {
		return err
	}
	if _, err := call(ctx, r, networkTimeout, "set up the network", r.agent.SetUpNetwork, r.untold); err != nil {
		return err
	}
	r.untold = nil
	return nil
}
