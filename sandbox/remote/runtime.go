// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
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

// Create makes a container in the guest.
func (rt *Runtime) Create(ctx context.Context, q *oci.CreateRequest) (_ *process.Process, retErr error) {
	if q.Restore != nil {
		return nil, fmt.Errorf("a container in a VM cannot be restored from a checkpoint: %w", errdefs.ErrNotImplemented)
	}
	spec, err := readSpec(q.Bundle)
	if err != nil {
		return nil, err
	}
	at := place{share: filepath.Join(rt.cfg.GuestShare, q.ID), disks: filepath.Join(rt.cfg.GuestDisks, strconv.FormatUint(rt.created.Add(1), 10))}
	p, err := planFor(q.ID, q.Bundle, at, rt.rootfses.get(q.Bundle), spec)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(check(p.binds), p.checkDisks()); err != nil { // sooner than after the boot of a machine
		return nil, err
	}
	r, err := rt.life.enter(ctx, q.ID, spec)
	if err != nil {
		return nil, err
	}
	if r.paused.Load() { // sooner than there is something to undo, for which it would have to go on
		rt.life.leave(ctx, q.ID)
		return nil, errPaused("create the container")
	}
	defer func() {
		if retErr != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			retErr = errors.Join(retErr, ignoreNotFound(rt.Delete(ctx, q.ID, true)))
		}
	}()
	if len(p.vfio) > 0 && r.first != q.ID {
		return nil, refuse("the device %s comes with a container that is not the first of its pod; a VM has such devices "+
			"from its boot on, or not at all", p.vfio[0].Path)
	}
	if err := r.openUsers(p.users); err != nil {
		return nil, err
	}
	if err := rt.share.add(q.ID, p.binds, r.userNamespace()); err != nil {
		return nil, err
	}
	request := &agentapi.CreateRequest{
		Container: q.ID, Spec: p.spec, Join: p.join, Sysctls: p.sysctls, ShmSize: p.shmSize,
		NoPivotRoot: q.NoPivotRoot, NoNewKeyring: q.NoNewKeyring,
	}
	if err := p.addDisks(ctx, r, q.ID, request); err != nil {
		return nil, err
	}
	r.newCgroup(q.ID)
	number, proc, err := r.newProcess(q.ID)
	if err != nil {
		return nil, err
	}
	streams := q.Streams.(*stdio) // of OpenStreams below
	request.Process, request.IoUid, request.IoGid = number, streams.uid, streams.gid
	request.Volumes = r.volumes.add(r, q.ID, p.binds)
	if request.Stdio, err = streams.join(ctx, r, number); err == nil {
		err = settle(ctx, r, runtimeTimeout, "create the container", r.agent.Create, request, func(ctx context.Context) error {
			_, err := call(ctx, r, undoTimeout, "delete the container", r.agent.Delete, &agentapi.DeleteRequest{Container: q.ID, Force: true})
			return err
		})
	}
	if err != nil {
		r.forgetProcess(number)
		return nil, err
	}
	r.volumes.made(q.ID)
	d := demandOf(spec)
	r.demand(q.ID, &d)
	r.settleOrSay(ctx)
	return proc, nil
}

// Exec starts one more process in the guest.
func (rt *Runtime) Exec(ctx context.Context, q *oci.ExecRequest) (*process.Process, error) {
	r, err := rt.life.of(q.ID)
	if err != nil {
		return nil, err
	}
	spec, err := guestProcess(q.Process)
	if err != nil {
		return nil, err
	}
	number, proc, err := r.newProcess(q.ID)
	if err != nil {
		return nil, err
	}
	streams := q.Streams.(*stdio)
	ids, err := streams.join(ctx, r, number)
	if err == nil {
		err = settle(ctx, r, runtimeTimeout, "exec", r.agent.Exec, &agentapi.ExecRequest{
			Container: q.ID, Process: number, Spec: spec, Stdio: ids, IoUid: streams.uid, IoGid: streams.gid,
		}, func(ctx context.Context) error { return r.endExec(ctx, q.ID, number) })
	}
	if err != nil {
		r.forgetProcess(number)
		return nil, err
	}
	return proc, nil
}

// endExec ends an exec that nobody will hear of.
func (r *guest) endExec(ctx context.Context, container string, number uint64) error {
	_, err := call(ctx, r, signalTimeout, "end an exec", r.agent.Signal,
		&agentapi.SignalRequest{Process: number, Container: container, Signal: uint32(unix.SIGKILL)})
	_, released := call(ctx, r, signalTimeout, "end an exec", r.agent.Release, &agentapi.ProcessRequest{Process: number})
	return errors.Join(ignoreNotFound(err), ignoreNotFound(released))
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

// Delete removes a container, and with the last of them the guest. What the
// guest itself has of one goes with the guest, if that has ended.
func (rt *Runtime) Delete(ctx context.Context, id string, force bool) error {
	r, err := rt.life.of(id)
	if err != nil {
		if failed := rt.reclaim(ctx, id); failed != nil {
			return failed // and not that there was nothing, which is no failure
		}
		return err
	}
	if !r.isDead() {
		if err := r.wake(ctx); err != nil && !r.isDead() {
			return err
		}
		_, err = call(ctx, r, deleteTimeout, "delete the container", r.agent.Delete,
			&agentapi.DeleteRequest{Container: id, Force: force})
		switch {
		case r.isDead():
			err = nil
		case errors.Is(err, context.DeadlineExceeded): // it is not the guest's to say whether there is one
			log.G(ctx).WithError(err).WithField("container", id).Warn("the VM may keep what it has of the container, until it ends")
			err = nil
		}
	}
	if ignoreNotFound(err) != nil {
		return err
	}
	r.forgetCgroup(id)
	r.volumes.remove(id)
	if err := r.removeDisks(ctx, id); err != nil {
		return err
	}
	if err := rt.share.remove(id); err != nil {
		return err
	}
	r.demand(id, nil)
	r.thawed(id)
	rt.life.leave(ctx, id)
	r.settleOrSay(ctx)
	return err
}

// reclaim removes what another process, which is gone, has left of a container,
// and of the pod with the last of them: as long as there are others, it may be
// that they live, and that it is only this one that was never made.
func (rt *Runtime) reclaim(ctx context.Context, id string) error {
	if rt.life.inUse() {
		return nil
	}
	if err := rt.share.remove(id); err != nil {
		return err
	}
	if empty, err := rt.share.empty(); err != nil || !empty {
		return err
	}
	if rt.cfg.Reclaim != nil {
		if err := rt.cfg.Reclaim(ctx); err != nil {
			return err
		}
	}
	return rt.share.close()
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

func ignoreNotFound(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}
