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
}

// Slicer makes MIG devices and takes them back. Both calls are safe to repeat.
type Slicer interface {
	// Acquire makes what is asked for, all of it or nothing, on GPUs that are
	// usable. What the owner has from an Acquire whose answer was lost is given
	// back first.
	Acquire(ctx context.Context, owner SliceOwner, asks []mig.Ask, usable []Device) ([]Slice, error)
	// Release takes back all that an owner has. What is still in use is left
	// for later, and is no error.
	Release(ctx context.Context, owner SliceOwner) error
}

// SliceOwner is whom slices are made for: a container, or a pod whose
// containers share them.
type SliceOwner struct {
	Namespace string `json:"namespace"` // containerd's
	ID        string `json:"id"`        // the container's, or the sandbox's
	Pod       bool   `json:"pod,omitempty"`
}

func (o SliceOwner) String() string {
	if o.Pod {
		return "pod " + o.Namespace + "/" + o.ID
	}
	return o.Namespace + "/" + o.ID
}

// releaseTimeout bounds what the deletion of a container waits for its slices.
// To destroy an instance takes some 1 s; containerd gives `shim delete` 5 s.
const releaseTimeout = 4 * time.Second

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
// them back, in whatever process.
func (h *Hook) grant(claim *Claim, spec *specs.Spec) granter {
	return func(ctx context.Context, inv *Inventory, r *SliceRequest) ([]Selected, error) {
		if h.Slices == nil {
			return nil, fmt.Errorf("no slices can be made here: the program berth-gpu is not installed beside the shim: %w", errdefs.ErrFailedPrecondition)
		}
		owner := sliceOwner(h.Namespace, claim.ID, r, spec)
		if owner.Pod {
			h.sharing.Lock()
			defer h.sharing.Unlock()
		}
		made, err := h.shared(owner)
		if err != nil {
			return nil, err
		}
		claim.Slices = &HeldSlices{Owner: owner, Made: made}
		if err := h.Roots.writeClaim(claim); err != nil {
			return nil, err
		}
		if made == nil {
			if claim.Slices.Made, err = h.Slices.Acquire(ctx, owner, r.Asks, h.healthy(inv)); err != nil {
				return nil, err
			}
			if err := h.Roots.writeClaim(claim); err != nil {
				return nil, err
			}
		}
		return selectSlices(inv, claim.Slices.Made)
	}
}

// shared are the slices that another container of the pod has already.
func (h *Hook) shared(owner SliceOwner) ([]Slice, error) {
	if !owner.Pod {
		return nil, nil
	}
	claims, err := h.Roots.Claims()
	for _, c := range claims {
		if c.Slices != nil && c.Slices.Owner == owner && c.Slices.Made != nil {
			return c.Slices.Made, nil
		}
	}
	return nil, err
}

// healthy are the GPUs that may be given to new containers.
func (h *Hook) healthy(inv *Inventory) []Device {
	var out []Device
	for _, d := range inv.Devices {
		if !d.Excluded && h.notBarred(d) == nil {
			out = append(out, d)
		}
	}
	return out
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

// ungrant takes back what a container has, unless others of its pod share it.
// That this fails keeps no container from being deleted: the next one that
// wants a slice of the GPU sweeps up.
func (h *Hook) ungrant(ctx context.Context, id string) {
	claim, err := h.Roots.Claim(h.Namespace, id)
	if err != nil || claim.Slices == nil {
		return // it never had any
	}
	owner := claim.Slices.Owner
	if owner.Pod {
		h.sharing.Lock()
		defer h.sharing.Unlock()
	}
	claims, err := h.Roots.Claims()
	if err == nil && slices.ContainsFunc(claims, func(c Claim) bool {
		return c.Slices != nil && c.Slices.Owner == owner && (c.Namespace != h.Namespace || c.ID != id)
	}) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err == nil && h.Slices != nil {
		err = h.Slices.Release(ctx, owner)
	}
	if err != nil {
		log.L.WithError(err).WithField("owner", owner.String()).Warn("MIG slices are not taken back yet; `berth gpu reclaim` does")
	}
}
