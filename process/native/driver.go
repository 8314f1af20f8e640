// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"sync"

	"github.com/opencontainers/runc/libcontainer"

	"berth/process"
	"berth/process/oci"
)

// Driver is runc's library as one container uses it. Calls may run at the same
// time. All that matters of a container is on disk: two drivers for one do not
// disturb each other. A Driver must not be copied.
type Driver struct {
	// Root is where runc keeps its state. Required.
	Root string
	// SystemdCgroup has systemd make the cgroups.
	SystemdCgroup bool
	// Dir is where calls that name no bundle run, as far as hooks can tell: the
	// bundle of the container that this driver serves. "" is "/".
	Dir string
	// Supervisor adopts what the library makes.
	Supervisor *process.Supervisor
	// Command is runc's command line, which has what the library is linked
	// without: checkpoint and restore. Nil says that there is none.
	Command func() (*oci.CLI, error)

	left sync.Pool // of *loaded, between execs
}

// Pause freezes a container.
func (d *Driver) Pause(ctx context.Context, id string) error {
	return d.with(ctx, "pause", id, (*libcontainer.Container).Pause)
}

// Resume thaws a container.
func (d *Driver) Resume(ctx context.Context, id string) error {
	return d.with(ctx, "resume", id, (*libcontainer.Container).Resume)
}

// State is what runc keeps of a container.
func (d *Driver) State(ctx context.Context, id string) (*oci.State, error) {
	var state *oci.State
	err := d.with(ctx, "state", id, func(c *libcontainer.Container) error {
		s, err := c.OCIState()
		if err == nil {
			state = &oci.State{ID: s.ID, Pid: s.Pid, Status: string(s.Status), Bundle: s.Bundle}
		}
		return err
	})
	if err != nil { // one that was left behind may yet set state
		return nil, err
	}
	return state, nil
}

func (d *Driver) with(ctx context.Context, verb, id string, f func(*libcontainer.Container) error) error {
	return d.do(ctx, verb, d.Dir, func(*call) error {
		c, err := d.load(id)
		if err != nil {
			return err
		}
		return f(c)
	})
}

// load reads the state of a container.
func (d *Driver) load(id string) (*libcontainer.Container, error) {
	c, err := libcontainer.Load(d.Root, id)
	if err != nil {
		return nil, err
	}
	tameHooks(c.Config().Hooks)
	return c, nil
}
