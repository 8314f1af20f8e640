// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/gpu/mps"
	"berth/hooks"
)

// BeforeFile is where a bundle has its config.json as it was before the
// injection, for `berth gpu explain --diff`.
const BeforeFile = "config.before-gpu.json"

// Hook injects GPUs into the containers that ask for them.
type Hook struct {
	Planner
	// Namespace is containerd's, that of the containers.
	Namespace string
	// Xids says what is done when a GPU fails, and Kmsg where that is told;
	// empty watches nothing.
	Xids XidPolicy
	Kmsg string
	// Broken is why nothing can be injected: a configuration that is not
	// right. Containers that ask for nothing are not concerned.
	Broken error
	// Slices makes MIG devices; nil where none can be made.
	Slices Slicer
	// MPS runs the daemons of pods that ask; nil where none can be. KillWithMPS
	// has containers killed whose daemon has died.
	MPS         *mps.Host
	KillWithMPS bool

	mu      sync.Mutex
	sharing chan struct{}     // see share
	holders map[string]*Claim // of this shim's containers
	first   chan struct{}     // closed with the first holder
	daemons []daemon          // of MPS, that nobody watches yet
	news    chan struct{}     // capacity 1: there are some
}

var (
	_ hooks.Updater  = (*Hook)(nil)
	_ hooks.Resident = (*Hook)(nil)
)

// undoTimeout bounds what a create that failed takes to give back what it had:
// the caller's time may be over. To stop an MPS daemon takes a second or two,
// and a release is waited for as long.
const undoTimeout = 5 * time.Second

// Name identifies the hook.
func (h *Hook) Name() string { return "gpu" }

// Create plans what the container gets, writes it into the spec and puts it on
// record. What has to be written into the root file system waits for that to
// be mounted.
func (h *Hook) Create(ctx context.Context, s *hooks.Spec) (retErr error) {
	if !h.Policy.Wanted(s.Config()) {
		return nil
	}
	oci, err := s.OCI()
	if err != nil {
		return err
	}
	claim := &Claim{Namespace: h.Namespace, ID: s.ID(), Bundle: s.Bundle(), Created: time.Now()}
	defer func() {
		if retErr != nil && (claim.Slices != nil || claim.MPS != nil || claim.Devices != nil) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			retErr = errors.Join(retErr, h.Delete(ctx, s.ID()))
		}
	}()
	plan, err := h.planFor(ctx, oci, claim)
	if err != nil || plan == nil {
		return err
	}
	if plan.build != nil {
		if err := plan.build(); err != nil {
			return err
		}
	}
	claim.Source, claim.Asked = plan.Request.Source, plan.Request.Asked
	claim.Devices, claim.Entries = plan.Holdings(), plan.Entries()
	if err := h.settle(claim); err != nil {
		return fmt.Errorf("GPU %s, by %s: %w", claim.Asked, claim.Source, err)
	}
	before := filepath.Join(s.Bundle(), BeforeFile)
	if err := os.WriteFile(before, s.Config(), 0o600); err != nil {
		return fmt.Errorf("keep the spec as it was: %w", err)
	}
	h.hold(claim)
	s.AfterMount(h, func(_ context.Context, rootfs string) error {
		report, err := plan.install(s, oci, rootfs)
		if err != nil {
			return err
		}
		claim.Entries = append(claim.Entries, report...) // nobody else looks at these yet
		return h.Roots.writeClaim(claim)
	})
	return s.Edit(func(oci *specs.Spec) error { plan.Apply(oci); return nil })
}

func (h *Hook) planFor(ctx context.Context, oci *specs.Spec, claim *Claim) (*Plan, error) {
	if h.Broken == nil {
		h.sweepMPS(ctx)
		return h.plan(ctx, oci, supply{h.grant(claim, oci), h.seat(claim, oci)})
	}
	req, err := ParseRequest(oci, h.Policy)
	if err != nil || req == nil {
		return nil, err
	}
	return nil, h.Broken
}

// Delete gives back what the container holds. The claim, which says what that
// is, stays after an error, for whoever tries again.
func (h *Hook) Delete(ctx context.Context, id string) error {
	claim, err := h.claimOf(id)
	if err != nil {
		return fmt.Errorf("tell what container %q holds of the GPUs: %w", id, err)
	}
	h.unseat(ctx, id, claim) // first: its server has the slices
	if err := h.ungrant(ctx, id, claim); err != nil {
		return err
	}
	h.mu.Lock()
	delete(h.holders, id)
	h.mu.Unlock()
	return h.Roots.removeClaim(h.Namespace, id)
}

// claimOf is a container's claim as it is on disk, or else as this shim has it;
// empty if there is none.
func (h *Hook) claimOf(id string) (*Claim, error) {
	claim, err := h.Roots.Claim(h.Namespace, id)
	if err == nil {
		return claim, nil
	}
	h.mu.Lock()
	held := h.holders[id]
	h.mu.Unlock()
	switch {
	case held != nil:
		return held, nil
	case errdefs.IsNotFound(err), errdefs.IsInvalidArgument(err): // none can have that name
		return new(Claim), nil
	}
	return nil, err
}

func (h *Hook) hold(c *Claim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders == nil {
		h.holders = make(map[string]*Claim)
	}
	h.holders[c.ID] = c
	if len(c.Devices) > 0 {
		h.wakeLocked()
	}
}
