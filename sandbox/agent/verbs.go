// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process/cgroup"
	"berth/sandbox/agentapi"
)

var _ agentapi.AgentService = (*server)(nil)

// Start lets the init of a container go.
func (s *server) Start(ctx context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return s.with(r.Container, func(c *container) error { return c.rt.Start(ctx, c.id) })
}

// Pause freezes a container.
func (s *server) Pause(ctx context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return s.with(r.Container, func(c *container) error { return c.rt.Pause(ctx, c.id) })
}

// Resume thaws it by the runtime.
func (s *server) Resume(ctx context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return s.with(r.Container, func(c *container) error { return c.rt.Resume(ctx, c.id) })
}

// Update changes resources.
func (s *server) Update(ctx context.Context, r *agentapi.UpdateRequest) (*agentapi.Empty, error) {
	return s.with(r.Container, func(c *container) error { return c.rt.Update(ctx, c.id, r.Resources) })
}

// Signal sends a signal to a process, or to all of a container.
func (s *server) Signal(ctx context.Context, r *agentapi.SignalRequest) (*agentapi.Empty, error) {
	sig := unix.Signal(r.Signal)
	if r.Process == 0 {
		return s.withCgroup(r.Container, func(cg *cgroup.Cgroup) error { return cg.Signal(ctx, sig) })
	}
	p, err := s.proc(r.Process)
	if err != nil {
		return nil, err
	}
	return &agentapi.Empty{}, p.os.Signal(sig)
}

// Kill ends all processes of a container.
func (s *server) Kill(ctx context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return s.withCgroup(r.Container, func(cg *cgroup.Cgroup) error {
		defer cg.Snapshot()
		return cg.Kill(ctx)
	})
}

// Frozen tells whether a container is frozen, whoever did it.
func (s *server) Frozen(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.FrozenResponse, error) {
	res := new(agentapi.FrozenResponse)
	_, err := s.withCgroup(r.Container, func(cg *cgroup.Cgroup) (err error) {
		res.Frozen, err = cg.Frozen()
		return err
	})
	return res, err
}

// Thaw thaws it behind the runtime's back.
func (s *server) Thaw(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.Empty, error) {
	return s.withCgroup(r.Container, (*cgroup.Cgroup).Thaw)
}

// Stats reads the container's metrics.
func (s *server) Stats(_ context.Context, r *agentapi.ContainerRequest) (*agentapi.StatsResponse, error) {
	res := new(agentapi.StatsResponse)
	_, err := s.withCgroup(r.Container, func(cg *cgroup.Cgroup) (err error) {
		res.Metrics, res.TypeUrl, err = cg.Stats(nil)
		return err
	})
	return res, err
}

// Shutdown ends the guest.
func (s *server) Shutdown(context.Context, *agentapi.Empty) (*agentapi.Empty, error) {
	unix.Sync()
	if s.cfg.PowerOff != nil {
		go s.cfg.PowerOff() // after the answer or not: the host waits for the end of the guest
	}
	return &agentapi.Empty{}, nil
}

func (s *server) with(id string, do func(*container) error) (*agentapi.Empty, error) {
	c, err := s.container(id)
	if err != nil {
		return nil, err
	}
	return &agentapi.Empty{}, do(c)
}

func (s *server) withCgroup(id string, do func(*cgroup.Cgroup) error) (*agentapi.Empty, error) {
	return s.with(id, func(c *container) error {
		if c.cgroup == nil {
			return fmt.Errorf("container %q has no cgroup: %w", id, errdefs.ErrNotFound)
		}
		return do(c.cgroup)
	})
}
