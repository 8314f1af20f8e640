// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/log"

	"berth/sandbox/agentapi"
	"berth/sandbox/vm"
)

// entropySize is what a clone gets of the host's, in bytes.
const entropySize = 512

// Clone makes a machine of a template that is like none of the template's others,
// and whose agent waits for a session. hostname is the guest's.
func Clone(ctx context.Context, c vm.Config, t *vm.Template, hostname string) (_ *vm.Machine, retErr error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cloneTimeout, fmt.Errorf("it took more than %v", cloneTimeout))
	defer cancel()
	began := time.Now()
	m, err := vm.Clone(ctx, c, t)
	if err != nil {
		return nil, err
	}
	defer func() {
		if retErr == nil {
			return
		}
		m.Kill(retErr.Error())
		retErr = errors.Join(retErr, m.Close(context.WithoutCancel(ctx)))
		if exit := m.Exit(); exit != nil {
			retErr = errors.Join(retErr, exit)
		}
	}()
	if err := talk(ctx, m.Transport(), func(ctx context.Context, agent agentapi.AgentService) error {
		return renew(ctx, agent, hostname)
	}); err != nil {
		return nil, fmt.Errorf("renew clone %s: %w", c.ID, err)
	}
	log.G(ctx).WithField("took", time.Since(began)).Debug("the clone has answered its first call")
	// By another agent, which has begun anew.
	if err := talk(ctx, m.Transport(), func(ctx context.Context, agent agentapi.AgentService) error {
		plug := &agentapi.PlugRequest{Share: c.Share != ""}
		for _, n := range c.NICs {
			plug.Macs = append(plug.Macs, n.MAC)
		}
		_, err := agent.Plug(ctx, plug)
		return err
	}); err != nil {
		return nil, fmt.Errorf("give clone %s its devices: %w", c.ID, err)
	}
	return m, nil
}

// renew gives the guest what no other has.
func renew(ctx context.Context, agent agentapi.AgentService, hostname string) error {
	random := make([]byte, entropySize+16)
	_, _ = rand.Read(random) // it never fails
	_, err := agent.Renew(ctx, &agentapi.RenewRequest{
		Entropy: random[:entropySize], MachineId: random[entropySize:], Hostname: hostname, Time: time.Now().UnixNano(),
	})
	return err
}
