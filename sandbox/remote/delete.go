// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"

	"berth/sandbox/agentapi"
)

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
		case errors.Is(err, context.DeadlineExceeded), ignoreNotFound(err) != nil && (force || r.refuses(id)):
			// It is not the guest's to say whether there is one. What is deleted by
			// force was never made: nobody would ask again.
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

// refuses notes that the guest has not deleted a container, and is true if it did
// not before: something may have been in the way once.
func (r *guest) refuses(container string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.undeleted[container]
	r.undeleted[container] = true
	return again
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

func ignoreNotFound(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}
