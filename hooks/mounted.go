// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"fmt"
	"path/filepath"
)

// Mounted is work of a hook that needs the container's root file system.
type Mounted func(ctx context.Context, rootfs string) error

// AfterMount registers work that a hook found to be necessary in Create and
// that needs the root file system. It is done once that is mounted and before
// the runtime is asked for anything; rootfs is its directory on the host. It
// may still edit the spec. What it writes is in the container's own layer, so
// there is nothing to undo.
func (s *Spec) AfterMount(hook Hook, f Mounted) {
	s.mounted = append(s.mounted, func(ctx context.Context, rootfs string) error {
		if err := f(ctx, rootfs); err != nil {
			return fmt.Errorf("hook %s: %w", hook.Name(), err)
		}
		return nil
	})
}

// Mounted does what the hooks' Create registered, in their order, and writes
// the spec back if that changed it. After an error the caller calls Delete, as
// for a container that was made.
func (c Chain) Mounted(ctx context.Context, spec *Spec) error {
	for _, f := range spec.mounted {
		if err := f(ctx, spec.rootfs()); err != nil {
			return err
		}
	}
	return spec.write()
}

// rootfs is the directory of the root file system on the host.
func (s *Spec) rootfs() string {
	if s.outline.Root == nil || filepath.IsAbs(s.outline.Root.Path) {
		return filepath.Clean("/" + s.rootPath())
	}
	return filepath.Join(s.bundle, s.rootPath())
}

func (s *Spec) rootPath() string {
	if s.outline.Root == nil {
		return ""
	}
	return s.outline.Root.Path
}

// Updater is a hook with a say in later changes of a container's resources.
type Updater interface {
	Hook
	// Update edits resources, an OCI LinuxResources as JSON, for a container
	// that was created with bundle. It returns them unchanged where it has
	// nothing to say.
	Update(ctx context.Context, bundle string, resources []byte) ([]byte, error)
}

// Update shows new resources to all hooks that have a say in them, in order.
func (c Chain) Update(ctx context.Context, bundle string, resources []byte) ([]byte, error) {
	for _, h := range c {
		u, ok := h.(Updater)
		if !ok {
			continue
		}
		var err error
		if resources, err = u.Update(ctx, bundle, resources); err != nil {
			return nil, fmt.Errorf("hook %s: %w", h.Name(), err)
		}
	}
	return resources, nil
}

// Pod is what a hook may ask of the pod whose containers it has edited. A
// container that is not there, or no longer, is ignored.
type Pod interface {
	// Has is true if the process, by its number on this kernel, is one of the
	// container's now.
	Has(id string, pid int) bool
	// Note puts a line on the container's record, to be kept with its exit.
	Note(id, text string)
	// Tell publishes an event of the hook's own, already encoded.
	Tell(id string, e Event)
	// Kill kills all processes of the container.
	Kill(ctx context.Context, id string) error
}

// Event is an event that is not of containerd's own kinds.
type Event struct {
	Topic string
	// TypeURL names the message that Value encodes.
	TypeURL string
	Value   []byte
}

// Resident is a hook that has something to do for as long as its pod lives.
type Resident interface {
	Hook
	// Serve returns when ctx ends.
	Serve(ctx context.Context, pod Pod)
}
