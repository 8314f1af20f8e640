// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/log"
	"github.com/moby/sys/userns"
	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runc/libcontainer"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
)

// Create makes a container whose init waits for Start, or restores one by the
// command line. On an error nothing of it is left.
func (d *Driver) Create(ctx context.Context, r *oci.CreateRequest) (p *process.Process, err error) {
	if r.Restore != nil {
		return d.restore(ctx, r)
	}
	_, err = os.Lstat(filepath.Join(d.Root, r.ID))
	undo := errors.Is(err, fs.ErrNotExist) // what another call made is not ours to undo
	err = d.do(ctx, "create", r.Bundle, func(c *call) error {
		made, err := d.create(c, r)
		if err == nil {
			p = made
		}
		return err
	})
	if err != nil && undo {
		err = errors.Join(err, d.undoCreate(ctx, r))
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (d *Driver) create(call *call, r *oci.CreateRequest) (*process.Process, error) {
	spec, err := loadSpec(r.Bundle)
	if err != nil {
		return nil, createError(err)
	}
	c, err := d.newContainer(r, spec)
	if err != nil {
		return nil, createError(err)
	}
	hold := d.Supervisor.Hold()
	defer hold.Release()
	var p *process.Process
	if err = r.IsReady(); err == nil {
		p, err = d.launch(c, hold, spec.Process, r.Streams, true)
	}
	if err == nil {
		if err = writePid(r, p.Pid()); err != nil {
			end(p)
		} else {
			err = call.handOver(p)
		}
	}
	if err != nil {
		if derr := c.Destroy(); derr != nil {
			log.L.WithError(derr).Warn("undo the creation of a container")
		}
		return nil, createError(err)
	}
	return p, nil
}

// createError is what the command line says.
func createError(err error) error { return fmt.Errorf("runc create failed: %w", err) }

func (d *Driver) newContainer(r *oci.CreateRequest, spec *specs.Spec) (*libcontainer.Container, error) {
	config, err := d.convert(r, spec)
	if err != nil {
		return nil, err
	}
	tameHooks(config.Hooks)
	return libcontainer.Create(d.Root, r.ID, config)
}

// rootlessCgroups tells, as the command line does, whether cgroups may turn out
// not to be ours: for a user that is not root, and for the root of a user
// namespace, unless its systemd is root's too.
func (d *Driver) rootlessCgroups() bool {
	switch {
	case os.Geteuid() != 0:
		return true
	case !userns.RunningInUserNS():
		return false
	case !d.SystemdCgroup:
		return true
	}
	owner, err := systemd.DetectUID()
	return err == nil && owner != 0
}

// undoCreate removes what a create that was cut off has left of its state and
// its cgroups. One that failed by itself has cleaned up.
func (d *Driver) undoCreate(ctx context.Context, r *oci.CreateRequest) error {
	if _, err := os.Lstat(filepath.Join(d.Root, r.ID)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := d.Delete(ctx, r.ID, true); err != nil {
		return fmt.Errorf("undo create: %w", err)
	}
	return nil
}

// writePid writes the pid file that the command line would have written.
func writePid(r *oci.CreateRequest, pid int) error {
	path := r.PidFile
	if path == "" {
		path = filepath.Join(r.Bundle, "init.pid")
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	// An earlier call, cut off, may have left it.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write pid file: %w", err)
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}
