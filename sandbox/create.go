// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/process/cgroup"
	"berth/process/oci"
)

const (
	// createTimeout bounds a create whose caller set no deadline. Hooks of the
	// spec run inside it; kubelet gives up after 2 minutes (runtimeRequestTimeout).
	createTimeout = 5 * time.Minute
	// undoTimeout bounds the removal of what a failed create made.
	undoTimeout = 30 * time.Second
)

// undo is what has to be taken back, in reverse, if a construction fails.
type undo struct {
	steps []func(context.Context) error
	// last is done only after all steps have succeeded; it may be nil.
	last func() error
}

func (u *undo) add(f func(context.Context) error) { u.steps = append(u.steps, f) }

// onError runs the steps if *err is set, and joins their errors to it.
func (u *undo) onError(ctx context.Context, err *error) {
	if *err == nil {
		return
	}
	ctx, cancel := bounded(ctx, undoTimeout)
	defer cancel()
	var failed error
	for _, f := range slices.Backward(u.steps) {
		failed = errors.Join(failed, f(ctx))
	}
	if failed == nil && u.last != nil {
		failed = u.last()
	}
	*err = errors.Join(*err, failed)
}

// create does all of a create that can fail. The caller's ctx cuts it short;
// what was made by then is undone.
func (c *Container) create(ctx context.Context) (retErr error) {
	var u undo
	defer u.onError(ctx, &retErr)
	defer errorOfPanic(&retErr) // which is then undone too
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()

	if err := c.prepare(ctx, &u); err != nil {
		return err
	}
	if c.req.Checkpoint != "" {
		if _, err := os.Stat(c.req.Checkpoint); err != nil {
			return fmt.Errorf("checkpoint to restore from: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return nil
	}
	init, err := c.rt.Create(ctx, c.runtimeRequest())
	if err != nil {
		return err
	}
	u.add(func(ctx context.Context) error { return ignoreNotFound(c.rt.Delete(ctx, c.req.ID, true)) })
	u.add(func(context.Context) error { return ignoreNotFound(init.Signal(unix.SIGKILL)) })
	if err := c.init.streams.Attach(ctx); err != nil {
		return err
	}
	u.add(func(context.Context) error { c.disown(); return nil })
	if err := c.adopt(init); err != nil {
		return err
	}
	// A caller that has gone will not learn of the container.
	return ctx.Err()
}

// prepare does what comes before the runtime: hooks, record, root file
// system, streams.
func (c *Container) prepare(ctx context.Context, u *undo) error {
	id, bundle := c.req.ID, c.req.Bundle
	var err error
	if c.rt, err = c.pod.cfg.Runtime(c.req.Options, bundle); err != nil {
		return err
	}
	c.at = kernelOf(c.rt, c.pod.cfg.Supervisor)
	spec, err := hooks.LoadSpec(bundle, id)
	if err != nil {
		return err
	}
	if err := c.pod.cfg.Hooks.Create(ctx, spec); err != nil {
		return err
	}
	u.add(func(ctx context.Context) error { return c.pod.cfg.Hooks.Delete(ctx, id) })

	c.cgroupsPath = cgroupsPath(spec, c.req.Options)
	if c.req.Checkpoint == "" { // else by Start
		c.claimed = c.claimCgroup()
		u.add(func(ctx context.Context) error { return removeCgroup(ctx, c.claimed()) })
	}
	if err := c.updateRecord(func(r *record) { r.Shim = os.Getpid() }); err != nil {
		return err
	}
	// What could not be undone is left to `delete`, which needs the record.
	u.last = func() error { return os.Remove(filepath.Join(bundle, recordName)) }
	if err := c.at.Mount(bundle, c.req.Rootfs); err != nil {
		return err
	}
	u.add(func(context.Context) error { return c.at.Unmount(bundle) })
	if err := c.pod.cfg.Hooks.Mounted(ctx, spec); err != nil {
		return err
	}

	if c.init.streams, err = c.openStreams(ctx, c.req.Stdio); err != nil {
		return err
	}
	u.add(func(context.Context) error { return c.init.streams.Close() })
	return nil
}

// claimCgroup takes the place of the container's cgroup, if there is none yet,
// so that all that will be in it is the container's. A runtime that is cut off
// leaves its cgroup behind, and what it began in it. On another kernel there is
// nothing to claim: what is left there goes with it.
//
// Making a cgroup waits for whoever attaches a process somewhere, and that for a
// grace period (cgroup.ExpectAttach): what has not to wait goes on meanwhile. The
// result gives what was claimed, nil for nothing.
func (c *Container) claimCgroup() func() *cgroup.Location {
	if _, here := c.at.(thisKernel); !here {
		return func() *cgroup.Location { return nil }
	}
	claim := sync.OnceValue(func() *cgroup.Location {
		loc, err := claimAt(c.cgroupsPath)
		cgroup.ExpectAttach() // not sooner: it would hold up the claim
		if err != nil {
			return nil
		}
		return &loc
	})
	go claim()
	return claim
}

// claimAt makes an error of a panic, which would end the shim: the claim has a
// goroutine of its own.
func claimAt(path string) (_ cgroup.Location, err error) {
	defer errorOfPanic(&err)
	return cgroup.Claim(path)
}

// noteClaim puts on record what was claimed, before the runtime makes anything.
func (c *Container) noteClaim() error {
	loc := c.claimed()
	if loc == nil {
		return nil
	}
	return c.updateRecord(func(r *record) { r.Claimed = loc })
}

// cgroupsPath is the one of the spec, or what runc makes of an empty one.
func cgroupsPath(spec *hooks.Spec, o configs.Runtime) string {
	switch path := spec.CgroupsPath(); {
	case path != "":
		return path
	case o.SystemdCgroup:
		return ":runc:" + spec.ID()
	}
	return spec.ID()
}

// removeCgroup kills and removes what is in a cgroup that was claimed.
func removeCgroup(ctx context.Context, claimed *cgroup.Location) error {
	if claimed == nil {
		return nil
	}
	cg, err := cgroup.Load(*claimed)
	if err != nil {
		return ignoreNotFound(err)
	}
	return errors.Join(cg.Kill(ctx), cg.Remove(ctx), cg.Close())
}

func (c *Container) openStreams(ctx context.Context, stdio process.Stdio) (Streams, error) {
	return c.at.OpenStreams(ctx, process.StreamsConfig{
		ID: c.req.ID, Namespace: c.pod.cfg.Namespace, Stdio: stdio,
		UID: int(c.req.Options.IOUID), GID: int(c.req.Options.IOGID),
		Supervisor: c.pod.cfg.Supervisor, RunDir: c.pod.cfg.RunDir,
	})
}

func (c *Container) runtimeRequest() *oci.CreateRequest {
	r := &oci.CreateRequest{
		ID: c.req.ID, Bundle: c.req.Bundle, Streams: c.init.streams,
		NoPivotRoot: c.req.Options.NoPivotRoot, NoNewKeyring: c.req.Options.NoNewKeyring,
		Ready: c.noteClaim,
	}
	if c.req.Checkpoint != "" {
		r.Restore = &oci.RestoreRequest{CRIU: oci.CRIU{
			ImagePath:  c.req.Checkpoint,
			ParentPath: c.req.ParentCheckpoint,
			WorkPath:   c.criuWorkPath(),
			ShellJob:   c.req.Stdio.Terminal,
		}}
	}
	return r
}

// criuWorkPath is where CRIU leaves its logs: as configured, or in the bundle.
func (c *Container) criuWorkPath() string {
	if p := c.req.Options.CriuWorkPath; p != "" {
		return p
	}
	return filepath.Join(c.req.Bundle, "work")
}

// adopt takes note of a new init. An init that died already may have taken
// its cgroup's name with it; the container is then one without statistics.
func (c *Container) adopt(init *process.Process) error {
	cg, err := c.at.Cgroup(c.req.ID, init)
	if err == nil {
		c.cgroup.Store(cg)
	} else {
		c.warn(err, "no cgroup: no statistics and no OOM events")
	}
	started, _ := process.StartTime(init.Pid()) // 0 for one that is gone: matches nothing
	c.mu.Lock()
	c.init.os = init
	c.mu.Unlock()
	return c.updateRecord(func(r *record) {
		r.Pid, r.StartTime = init.Pid(), started
		if cg, here := cg.(localCgroup); here {
			l := cg.Location()
			r.Cgroup = &l
		}
	})
}

// disown undoes adopt: nobody watches that init, so nobody may wait for it.
func (c *Container) disown() {
	c.mu.Lock()
	c.init.os = nil
	c.mu.Unlock()
	c.closeCgroup()
}

// announce tells of the container, starts watching its init if there is one,
// and returns the init's pid.
func (c *Container) announce() int {
	c.mu.Lock()
	pid := c.init.pid()
	c.queueLocked(Event{Kind: TaskCreate, Pid: pid, Create: c.req})
	c.mu.Unlock()
	c.flush()
	if pid != 0 {
		c.watchInit()
	}
	return pid
}

// watchInit starts the watchers of the init and of its OOM kills.
func (c *Container) watchInit() {
	if cg := c.cgroup.Load(); cg != nil {
		watch, err := cg.WatchOOM(c.noteOOM)
		c.warn(err, "OOM kills are told only when they end the init or an exec")
		c.oom = watch
	}
	c.pod.work.Add(1)
	go c.superviseInit()
}
