// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/ttrpc"

	"berth/sandbox/agentapi"
	"berth/sandbox/mux"
)

// talk has a session with an agent, in which it is asked something, and leaves the
// transport as it was: for the next session. If that fails the transport is closed.
func talk(ctx context.Context, t io.ReadWriteCloser, ask func(context.Context, agentapi.AgentService) error) (retErr error) {
	session := mux.Host(t, mux.Config{})
	defer func() {
		if retErr != nil {
			_ = session.Close()
		}
	}()
	if err := session.Handshake(ctx); err != nil {
		return err
	}
	control, err := session.Open(ctx, agentapi.ControlStream, agentapi.ControlWindow)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(control)
	defer func() { _ = client.Close() }()
	if err := ask(ctx, agentapi.NewAgentClient(client)); err != nil {
		return err
	}
	// The agent is told that there are no more calls, or it would complain.
	if err := control.CloseWrite(); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	if err := session.Shutdown(ctx); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	return nil
}

// nothing is asked of an agent that is only to be there.
func nothing(context.Context, agentapi.AgentService) error { return nil }

const (
	// bootTimeout is for a template, which runs only when nothing else does.
	bootTimeout = 10 * time.Minute
	// cloneTimeout is several times what a clone takes on a busy host. A pod
	// waits for it, and then for a machine that boots.
	cloneTimeout = 15 * time.Second
)
