// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Hook is one edit of a container's spec.
type Hook interface {
	// Name identifies the hook in errors.
	Name() string
	// Create inspects or edits the spec before the runtime sees it. When it fails it has
	// undone its own effects; Delete is then called for the hooks before it only.
	Create(ctx context.Context, spec *Spec) error
	// Delete undoes what Create did outside of the spec. It is idempotent and needs no
	// earlier Create in this process.
	Delete(ctx context.Context, id string) error
}

// Chain is a list of hooks, applied in order.
type Chain []Hook

// undoTimeout bounds the deletes after a failed Create. The caller's context may be what
// failed, so they run on a context of their own; containerd itself gives a shim's clean-up
// 5 s (io.containerd.timeout.shim.cleanup).
const undoTimeout = 5 * time.Second

// Create runs every hook on spec and writes the spec back if one of them changed it. When it
// fails nothing is left applied and config.json is as it was.
func (c Chain) Create(ctx context.Context, spec *Spec) error {
	for i, h := range c {
		err := ctx.Err()
		if err == nil {
			err = h.Create(ctx, spec)
		}
		if err != nil {
			return c[:i].undo(ctx, spec.ID(), fmt.Errorf("hook %s: %w", h.Name(), err))
		}
	}
	if err := spec.write(); err != nil {
		return c.undo(ctx, spec.ID(), err)
	}
	return nil
}

func (c Chain) undo(ctx context.Context, id string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return errors.Join(cause, c.Delete(ctx, id))
}

// Delete undoes every hook for the container, in reverse order. Every hook is asked, whatever
// the others answered.
func (c Chain) Delete(ctx context.Context, id string) error {
	var errs []error
	for _, h := range slices.Backward(c) {
		if err := h.Delete(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("undo hook %s: %w", h.Name(), err))
		}
	}
	return errors.Join(errs...)
}
