// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/mig"
)

// Slice is a MIG device that was made for an owner.
type Slice struct {
	BusID   string `json:"bus_id"`
	GI      int    `json:"gi"`
	CI      int    `json:"ci"`
	UUID    string `json:"uuid"`    // "MIG-…"
	Profile string `json:"profile"` // "3g.71gb"
}

// HeldSlices are those of one container.
type HeldSlices struct {
	Owner SliceOwner `json:"owner"`
	Made  []Slice    `json:"made,omitempty"` // none as long as they are being made
	// Modes are the bus ids of the GPUs whose MIG mode may be turned on meanwhile.
	Modes []string `json:"modes,omitempty"`
}

// Slicer makes MIG devices and takes them back. Both calls are safe to repeat.
type Slicer interface {
	// Acquire makes what a container asks for, all of it or nothing, on GPUs
	// that are usable; or gives it what other containers of its group use.
	// After an error there may be slices all the same: Release them.
	Acquire(ctx context.Context, owner SliceOwner, container string, asks []mig.Ask, usable []Device) ([]Slice, error)
	// Release has the slices of a group taken back that has no tenant any more.
	// It waits for that, but not for long: it goes on without this process.
	Release(ctx context.Context, owner SliceOwner) error
}

// SliceOwner is whom slices are made for: a container, or a pod whose
// containers share them.
type SliceOwner struct {
	Namespace string `json:"namespace"` // containerd's
	ID        string `json:"id"`        // the container's, or the sandbox's
	Pod       bool   `json:"pod,omitempty"`
	// Group tells the slices of one acquire from all others, also of another
	// container of the same name.
	Group string `json:"group"`
}

func (o SliceOwner) String() string {
	if o.Pod {
		return "pod " + o.Namespace + "/" + o.ID
	}
	return o.Namespace + "/" + o.ID
}

// granter gives a request the devices that are made for it.
type granter func(ctx context.Context, inv *Inventory, r *SliceRequest) ([]Selected, error)

// previewSlices makes nothing: for `berth gpu explain`.
func previewSlices(context.Context, *Inventory, *SliceRequest) ([]Selected, error) { return nil, nil }

// sliceOwner is who owns what a container asks for.
func sliceOwner(namespace, id string, r *SliceRequest, spec *specs.Spec) SliceOwner {
	if r.Share {
		return SliceOwner{Namespace: namespace, ID: spec.Annotations[criSandboxID], Pod: true}
	}
	return SliceOwner{Namespace: namespace, ID: id}
}

// grant makes the slices of one container. The claim that says so is on disk
// before the first of them is made, so that whoever deletes the container gives
// them back, in whatever process; and so is the tenant, by which berth-gpu
// tells whether the container lives, in whatever state the shim is.
func (h *Hook) grant(claim *Claim, spec *specs.Spec) granter {
	return func(ctx context.Context, inv *Inventory, r *SliceRequest) ([]Selected, error) {
		if h.Slices == nil {
			return nil, fmt.Errorf("no slices can be made here: the program berth-gpu is not installed beside the shim: %w", errdefs.ErrFailedPrecondition)
		}
		owner := sliceOwner(h.Namespace, claim.ID, r, spec)
		if owner.Pod {
			leave, err := h.share(ctx)
			if err != nil {
				return nil, err
			}
			defer leave()
		}
		if err := h.moveIn(&owner, claim.ID, spec); err != nil {
			return nil, err
		}
		claim.Slices = &HeldSlices{Owner: owner, Modes: h.modesAllowed(inv)}
		err := h.Roots.writeClaim(claim)
		if err != nil {
			claim.Slices = nil
			_, undo := h.moveOut(owner, claim.ID)
			return nil, errors.Join(err, undo)
		}
		usable, not, err := h.sliceable(inv)
		if err != nil {
			return nil, err
		}
		if len(usable) == 0 {
			countUnusable(h.Roots.Run, r.Asks)
			return nil, fmt.Errorf("no GPU can be sliced: %s: %w", orUnknown(strings.Join(not, "; "), "there is none"), errdefs.ErrFailedPrecondition)
		}
		claim.Slices.Made, err = h.Slices.Acquire(ctx, owner, claim.ID, r.Asks, usable)
		if err != nil && len(not) > 0 {
			err = fmt.Errorf("%w; not to be sliced: %s", err, strings.Join(not, "; "))
		}
		if err != nil {
			return nil, err
		}
		if err := h.strangers(claim.Slices.Made); err != nil {
			return nil, err
		}
		claim.Slices.Modes = nil // what was turned on is in MIG mode, which is seen
		if err := h.Roots.writeClaim(claim); err != nil {
			return nil, err
		}
		return selectSlices(inv, claim.Slices.Made)
	}
}

func selectSlices(inv *Inventory, made []Slice) ([]Selected, error) {
	var out []Selected
	for _, s := range made {
		i := slices.IndexFunc(inv.Devices, func(d Device) bool { return d.BusID == s.BusID })
		if i < 0 {
			return nil, fmt.Errorf("a slice was made on the GPU at %s, which the kernel does not show: %w", s.BusID, errdefs.ErrUnavailable)
		}
		out = append(out, Selected{Device: inv.Devices[i], Instance: &Instance{GI: s.GI, CI: s.CI, UUID: s.UUID}})
	}
	return out, nil
}

// share is a gate: the containers of a pod find out one after another whether
// there is something to share. Deletions do not pass it.
func (h *Hook) share(ctx context.Context) (leave func(), err error) {
	h.mu.Lock()
	if h.sharing == nil {
		h.sharing = make(chan struct{}, 1)
	}
	gate := h.sharing
	h.mu.Unlock()
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the slices that another container of the pod makes: %w", ctx.Err())
	}
}

// ungrant takes back what a container has, unless others of its pod share it.
// That the container is no tenant any more is the release, and takes neither a
// lock nor room on disk; only if that fails the container is not released. That
// nothing comes of carrying it out keeps no container from being deleted: whoever
// next wants a slice of the GPU sweeps up.
func (h *Hook) ungrant(ctx context.Context, id string, claim *Claim) error {
	if claim.Slices == nil {
		return nil
	}
	owner := claim.Slices.Owner
	last, err := h.moveOut(owner, id)
	if err != nil {
		return fmt.Errorf("release the MIG slices of %s: %w", owner, err)
	}
	if !last || h.Slices == nil {
		return nil
	}
	if err := h.Slices.Release(ctx, owner); err != nil {
		log.L.WithError(err).WithField("owner", owner.String()).Warn("MIG slices are not taken back yet; `berth gpu reclaim` does")
	}
	return nil
}
