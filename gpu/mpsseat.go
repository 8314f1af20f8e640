// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/configs"
	"berth/gpu/mps"
	"berth/process"
)

// HeldMPS is a container's place at its pod's MPS daemon.
type HeldMPS struct {
	Owner mps.Owner `json:"owner"`
	Ask   mps.Ask   `json:"ask"`
	// Control is the daemon's program, below the driver's root.
	Control string `json:"control"`
}

// NewMPS runs MPS daemons by the policy of this host.
func NewMPS(c configs.GPU, sup *process.Supervisor) *mps.Host {
	return &mps.Host{
		Dir: rootsOf(c).run("mps"), Helper: newHelper(c, sup).Path, DriverRoot: c.DriverRoot, DevRoot: c.DevRoot,
		Supervisor: sup, Multiuser: c.MPS.Multiuser,
	}
}

// seat has a container join its pod's daemon. The claim that says so is on disk
// before, as for slices, which are there already: who deletes the container
// stops the daemon before it destroys them.
func (h *Hook) seat(claim *Claim, spec *specs.Spec) seater {
	return func(ctx context.Context, s shared) (*mps.Seat, error) {
		if h.MPS == nil {
			return nil, fmt.Errorf("MPS is not run here: %w", errdefs.ErrFailedPrecondition)
		}
		s.ID, s.Owner = claim.ID, mps.Owner{Namespace: h.Namespace, ID: claim.ID}
		if pod := spec.Annotations[criSandboxID]; pod != "" {
			s.Owner = mps.Owner{Namespace: h.Namespace, ID: pod, Pod: true}
		}
		if err := h.unshared(s); err != nil {
			return nil, err
		}
		claim.MPS = &HeldMPS{Owner: s.Owner, Ask: s.Ask, Control: s.Control}
		if err := h.Roots.writeClaim(claim); err != nil {
			return nil, err
		}
		seat, err := h.MPS.Join(ctx, s.Request)
		if err == nil && seat.Started != nil {
			h.watchDaemon(daemon{s.Owner, seat, s.Devices})
		}
		return seat, err
	}
}

// unshared says who else has a GPU that one process alone may have: the driver
// would refuse the server, or them.
func (h *Hook) unshared(s shared) error {
	if s.exclusive == nil {
		return nil
	}
	claims, err := h.Roots.Claims()
	if err != nil {
		return err
	}
	for _, c := range claims {
		if c.Namespace == h.Namespace && c.ID == s.ID || c.MPS != nil && c.MPS.Owner == s.Owner {
			continue
		}
		for _, has := range c.Devices {
			if slices.Contains(s.exclusive, has.BusID) && slices.ContainsFunc(s.devices, has.same) {
				return fmt.Errorf("MPS: the compute mode of the GPU at %s is EXCLUSIVE_PROCESS, and %s/%s has it too, without this daemon: delete that, or ask for another GPU: %w",
					has.BusID, c.Namespace, c.ID, errdefs.ErrFailedPrecondition)
			}
		}
	}
	return nil
}

// same is true for the device that is held.
func (d Holding) same(s Selected) bool {
	if d.BusID != s.Device.BusID || (d.MIG == nil) != (s.Instance == nil) {
		return false
	}
	return d.MIG == nil || d.MIG.GI == s.Instance.GI && d.MIG.CI == s.Instance.CI
}

// unseat takes a container from its daemon, which ends with the last one. That
// this fails keeps no container from being deleted: a sweep finishes it.
func (h *Hook) unseat(ctx context.Context, id string, claim *Claim) {
	if claim.MPS == nil || h.MPS == nil {
		return
	}
	if err := h.MPS.Leave(ctx, claim.MPS.Owner, id, claim.MPS.Control); err != nil {
		log.L.WithError(err).WithField("owner", claim.MPS.Owner.String()).Warn("an MPS daemon is not stopped yet; `berth gpu reclaim` does")
	}
}

// sweepTimeout bounds what a container waits for the sweep before it. A process
// that is killed is gone in milliseconds; one that hangs in the driver is the
// next sweep's too.
const sweepTimeout = time.Second

// sweepMPS stops the daemons of pods that are gone: their servers have GPUs, or
// MIG devices that are to be destroyed.
func (h *Hook) sweepMPS(ctx context.Context) {
	if h.MPS == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	for _, a := range h.MPS.Sweep(ctx, false) {
		if a.Did != mps.Kept {
			log.L.WithField("dir", a.Dir).WithField("why", a.Why).Warn("an MPS daemon that was left: " + string(a.Did))
		}
	}
}
