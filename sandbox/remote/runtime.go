// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process"
	"berth/sandbox"
	"berth/sandbox/agentapi"
)

var (
	_ sandbox.Runtime = (*Runtime)(nil)
	_ sandbox.Kernel  = (*Runtime)(nil)
)

// undoTimeout bounds the removal of what a failed call made.
const undoTimeout = 20 * time.Second

// Config is what a Runtime is made of.
type Config struct {
	// Host is where root file systems are mounted and clients' streams opened.
	Host sandbox.Kernel
	// Share is a directory of this pod's alone, made and removed here. The
	// guest has what is shared of it at GuestShare.
	Share, GuestShare string
	// GuestDisks is where the guest has file systems of its own kernel.
	GuestDisks string
	// Boot makes the guest of the pod. nil where none will be made: in `shim
	// delete`.
	Boot func(context.Context, BootRequest) (Machine, error)
	// Reclaim ends and removes what a machine of this pod has left whose shim
	// is gone. It may be called with nothing to do. nil does nothing.
	Reclaim func(context.Context) error
	// PauseMachine has the machine stop when all of its containers are paused.
	PauseMachine bool
}

// BootRequest is what a guest is made for.
type BootRequest struct {
	// Spec is that of the pod's first container, as the host has it.
	Spec *specs.Spec
	// Share is the directory that the guest is to have at GuestShare.
	Share string
}

// Runtime runs the containers of one pod in one guest, which is made with the
// first and ended with the last.
type Runtime struct {
	cfg   Config
	share share
	life  *lifecycle
	// rootfses are those that guests make of disks.
	rootfses rootfses
	created  atomic.Uint64 // containers, also those that failed
}

// New returns a runtime without a guest.
func New(cfg Config) *Runtime {
	return &Runtime{cfg: cfg, share: share{cfg.Share}, life: newLifecycle(cfg)}
}

// Start lets the init of a container go.
func (rt *Runtime) Start(ctx context.Context, id string) error {
	r, err := rt.life.of(id)
	if err != nil {
		return err
	}
	if err := r.takeNetwork(ctx); err != nil {
		return err
	}
	return rt.ask(ctx, id, "start the container", agentapi.AgentService.Start)
}

// Pause freezes a container, and if so configured stops a machine that has none
// left that is not frozen.
func (rt *Runtime) Pause(ctx context.Context, id string) error {
	err := rt.ask(ctx, id, "pause the container", agentapi.AgentService.Pause)
	if err != nil || !rt.cfg.PauseMachine {
		return err
	}
	r, err := rt.life.of(id)
	if err != nil {
		return err
	}
	if err := r.froze(ctx, id); err != nil {
		r.thawed(id)
		return errors.Join(err, rt.ask(context.WithoutCancel(ctx), id, "resume the container", agentapi.AgentService.Resume))
	}
	return nil
}

// Resume thaws it.
func (rt *Runtime) Resume(ctx context.Context, id string) error {
	r, err := rt.life.of(id)
	if err != nil {
		return err
	}
	if err := r.wake(ctx); err != nil {
		return err
	}
	if err := r.setClock(ctx); err != nil {
		return err
	}
	r.thawed(id)
	return rt.ask(ctx, id, "resume the container", agentapi.AgentService.Resume)
}

func (rt *Runtime) ask(ctx context.Context, id, what string,
	f func(agentapi.AgentService, context.Context, *agentapi.ContainerRequest) (*agentapi.Empty, error),
) error {
	r, err := rt.life.of(id)
	if err != nil {
		return err
	}
	_, err = call(ctx, r, runtimeTimeout, what, func(ctx context.Context, q *agentapi.ContainerRequest) (*agentapi.Empty, error) {
		return f(r.agent, ctx, q)
	}, &agentapi.ContainerRequest{Container: id})
	return err
}

// Update changes the container's resources in the guest, and what the machine
// has of the host.
func (rt *Runtime) Update(ctx context.Context, id string, resources []byte) error {
	r, err := rt.life.of(id)
	if err != nil {
		return err
	}
	return r.update(ctx, id, resources, func() error {
		_, err := call(ctx, r, runtimeTimeout, "update the container", r.agent.Update,
			&agentapi.UpdateRequest{Container: id, Resources: resources})
		return err
	})
}

// Mount keeps a root file system on disks for the guest to put together, and
// has the host mount any other.
func (rt *Runtime) Mount(bundle string, rootfs []sandbox.Mount) error {
	if isOnDisks(rootfs) {
		rt.rootfses.put(bundle, rootfs)
		return nil
	}
	return rt.cfg.Host.Mount(bundle, rootfs)
}

// Unmount undoes Mount.
func (rt *Runtime) Unmount(bundle string) error {
	rt.rootfses.drop(bundle)
	return rt.cfg.Host.Unmount(bundle)
}

// OpenStreams opens the client's side of a process's streams.
func (rt *Runtime) OpenStreams(ctx context.Context, cfg process.StreamsConfig) (sandbox.Streams, error) {
	s, err := openStdio(ctx, rt.cfg.Host, cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Cgroup is that of a container in the guest.
func (rt *Runtime) Cgroup(id string, _ *process.Process) (sandbox.Cgroup, error) {
	r, err := rt.life.of(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if cg := r.cgroups[id]; cg != nil {
		return cg, nil
	}
	return nil, fmt.Errorf("container %q: %w", id, errdefs.ErrNotFound)
}
