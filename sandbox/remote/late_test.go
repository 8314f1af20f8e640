// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"berth/sandbox/agentapi"
)

// lateMachine has a network once.
type lateMachine struct {
	*fakeMachine
	asked int
}

func (m *lateMachine) LateNetwork(context.Context) (*agentapi.NetworkRequest, error) {
	if m.asked++; m.asked > 1 {
		return nil, nil
	}
	return &agentapi.NetworkRequest{}, nil
}

// A network that the guest could not be given is not taken for one that it has.
func TestLateNetworkUntold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := connect(t.Context(), &lateMachine{fakeMachine: mute()})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := g.takeNetwork(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a guest that does not answer: %v", err)
			}
		}
		g.fail(errors.New("the test is over"))
		g.close()
	})
}
