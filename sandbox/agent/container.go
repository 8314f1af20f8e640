// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/cgroup"
	"berth/process/oci"
	"berth/sandbox/agentapi"
)

// undoTimeout bounds the removal of what a failed call made.
const undoTimeout = 20 * time.Second

// container is one container that was made. Its fields do not change.
type container struct {
	id     string
	bundle string
	rt     Runtime
	init   *proc
	cgroup *cgroup.Cgroup // nil where the init died too early
	oom    *oomWatch      // nil without one
	mounts []string       // below DiskDir, in the order in which they were made

	volumes map[string]*volume // by name; nil without one
}

// proc is one process of a container.
type proc struct {
	number    uint64
	container string
	os        *process.Process
	stdio     *stdio
}

// Create makes a container.
func (s *server) Create(ctx context.Context, r *agentapi.CreateRequest) (_ *agentapi.Empty, retErr error) {
	if !validID(r.Container) {
		return nil, fmt.Errorf("container id %q: %w", r.Container, errdefs.ErrInvalidArgument)
	}
	ctx, made, err := s.reserve(ctx, r.Container)
	if err != nil {
		return nil, err
	}
	defer made()
	c := &container{id: r.Container, bundle: filepath.Join(s.cfg.Dir, r.Container)}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, s.undo(ctx, c))
			s.forget(c.id)
		}
	}()
	if err := s.makeTmpfs(c, r.Tmpfs); err != nil {
		return nil, err
	}
	if err := s.makeMounts(ctx, c, r.Mounts); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.bundle, 0o700); err != nil {
		return nil, fmt.Errorf("make the bundle: %w", err)
	}
	sources, err := s.copyVolumes(c, r.Volumes)
	if err != nil {
		return nil, err
	}
	spec, err := s.finishSpec(r, sources)
	if err == nil {
		spec, err = s.addDevices(ctx, spec, r.Devices)
	}
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), spec, 0o600); err != nil {
		return nil, fmt.Errorf("make the bundle: %w", err)
	}
	c.rt = s.cfg.Runtime(c.bundle)
	init := &proc{number: r.Process, container: c.id}
	if init.stdio, err = s.openStdio(ctx, opening{c.id, r.Process, r.Stdio, r.IoUid, r.IoGid}); err != nil {
		return nil, err
	}
	c.init = init
	init.os, err = c.rt.Create(ctx, &oci.CreateRequest{
		ID: c.id, Bundle: c.bundle, Streams: init.stdio, NoPivotRoot: r.NoPivotRoot, NoNewKeyring: r.NoNewKeyring,
	})
	if err != nil {
		return nil, err
	}
	if err := init.stdio.Attach(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // nobody wants it any more
		return nil, err
	}
	s.openCgroup(c)
	s.keep(c)
	return &agentapi.Empty{}, nil
}

// openCgroup takes hold of what holds the container. An init that died already
// may have taken the name with it; the container has no statistics then.
func (s *server) openCgroup(c *container) {
	var err error
	if c.cgroup, err = cgroup.Open(c.init.os.Pid()); err != nil {
		return
	}
	c.oom = s.watchOOM(c.id, c.cgroup)
}

func (s *server) forget(id string) {
	s.mu.Lock()
	delete(s.containers, id)
	s.mu.Unlock()
}

// keep has the container found by calls, and its init's exit told.
func (s *server) keep(c *container) {
	s.mu.Lock()
	s.containers[c.id] = c
	s.mu.Unlock()
	s.watch(c, c.init)
}

// watch tells of a process's exit. It is the last thing that is told of it.
func (s *server) watch(c *container, p *proc) {
	s.mu.Lock()
	s.procs[p.number] = p
	s.mu.Unlock()
	s.work.Go(func() {
		select {
		case <-p.os.Done():
		case <-s.gone:
			return
		}
		exit := p.os.Exit()
		e := &agentapi.Exit{Process: p.number, Status: uint32(exit.Status), Known: exit.Known}
		if c.cgroup != nil {
			e.OomKills, _ = c.cgroup.OOMKills() // 0 where they are not counted
		}
		s.tell(&agentapi.Event{Event: &agentapi.Event_Exit{Exit: e}})
	})
}

// undo removes what a failed Create has made.
func (s *server) undo(ctx context.Context, c *container) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var errs []error
	if c.init != nil && c.init.os != nil {
		_ = c.init.os.Signal(unix.SIGKILL) // not found: it is dead
		errs = append(errs, ignoreNotFound(c.rt.Delete(ctx, c.id, true)))
	}
	return errors.Join(append(errs, c.release(), s.sweep(c))...)
}

// release gives back what this process holds of the container.
func (c *container) release() error {
	var errs []error
	if c.oom != nil {
		errs = append(errs, c.oom.Close())
	}
	if c.cgroup != nil {
		errs = append(errs, c.cgroup.Close())
	}
	if c.init != nil {
		errs = append(errs, c.init.stdio.close())
	}
	return errors.Join(errs...)
}

// sweep removes the bundle, lets go of what the host shares for the container,
// which the host cannot unmount as long as the guest has it, and of what is on
// its disks.
func (s *server) sweep(c *container) error {
	return errors.Join(s.unmountShare(c.id), c.undoMounts(), os.RemoveAll(c.bundle))
}

// Delete removes a container. By force it removes one that is being made, too.
func (s *server) Delete(ctx context.Context, r *agentapi.DeleteRequest) (*agentapi.Empty, error) {
	if r.Force {
		if err := s.giveUp(ctx, r.Container); err != nil {
			return nil, err
		}
	}
	c, err := s.container(r.Container)
	if err != nil {
		return nil, err
	}
	if r.Force {
		_ = c.init.os.Signal(unix.SIGKILL) // not found: it is dead
	}
	if err := ignoreNotFound(c.rt.Delete(ctx, c.id, r.Force)); err != nil {
		return nil, err
	}
	err = c.release()
	s.mu.Lock()
	var execs []*proc
	for n, p := range s.procs {
		if p.container == c.id {
			delete(s.procs, n)
			if p != c.init {
				execs = append(execs, p)
			}
		}
	}
	s.mu.Unlock()
	for _, p := range execs {
		err = errors.Join(err, p.stdio.close())
	}
	err = errors.Join(err, c.endVolumes(ctx), s.sweep(c))
	s.forget(c.id)
	return &agentapi.Empty{}, err
}

func (s *server) container(id string) (*container, error) {
	s.mu.Lock()
	c := s.containers[id]
	s.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("container %q: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

func (s *server) proc(number uint64) (*proc, error) {
	s.mu.Lock()
	p := s.procs[number]
	s.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("process %d: %w", number, errdefs.ErrNotFound)
	}
	return p, nil
}

// validID is true for what is one component of a path. What else an id may be
// is the host's to judge.
func validID(id string) bool {
	return id != "" && id[0] != '.' && !strings.ContainsAny(id, "/\x00")
}

func ignoreNotFound(err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}
