// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"

	"berth/process"
	"berth/process/oci"
	"berth/sandbox/agentapi"
)

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
	if err := r.setClock(ctx); err != nil { // a signal has let the machine go on, and nobody resumed anything since
		rt.life.leave(ctx, q.ID)
		return nil, err
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
		Container: q.ID, Spec: p.spec, Join: p.join, Sysctls: p.sysctls, Tmpfs: p.tmpfs,
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
