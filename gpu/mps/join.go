// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"berth/process"
	"berth/process/cgroup"
)

// Request is what a container joins its pod's daemon with.
type Request struct {
	Owner Owner
	// ID is the container's, and CgroupsPath where its specification has its
	// cgroup.
	ID, CgroupsPath string
	Ask             Ask
	// Devices are the UUIDs of the devices that it has.
	Devices []string
	// UID is the host's user as which it runs.
	UID int
	// OOMScoreAdj is the container's, and becomes the daemon's: the shim's own
	// is for a process that is small.
	OOMScoreAdj int
	// Control is the daemon's program, as it is called below the driver root.
	Control string
}

// Seat is a container's place at a daemon.
type Seat struct {
	// Pipe and Shm are directories of the host, for the client's pipe directory
	// and its /dev/shm. Writable and Hidden are names in Pipe: files that clients
	// write to, and what they are not to have.
	Pipe, Shm        string
	Writable, Hidden []string
	Daemon           Process
	// Started is the daemon, if it was started for this container, for whoever
	// waits for its end.
	Started *process.Process
}

// joinTimeout bounds a Join, whose caller may have no deadline. A daemon starts
// in milliseconds; a driver that wakes sleeping GPUs up takes seconds for each.
const joinTimeout = 30 * time.Second

// Join makes a container a member of its pod's daemon, which is started for the
// first one. On an error nothing of it is left, except for what a Leave or Sweep
// undoes. The error is errdefs.ErrInvalidArgument where the pod's containers ask
// for what one daemon cannot do.
func (h *Host) Join(ctx context.Context, r Request) (*Seat, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	p, err := h.cleared(ctx, r)
	if err != nil {
		return nil, err
	}
	defer p.unlock()
	at, err := cgroup.Place(r.CgroupsPath)
	if err != nil {
		at = cgroup.Location{} // the runtime will say what is wrong with it
	}
	member := Member{ID: r.ID, Cgroup: at}
	if p.rec == nil {
		return p.begin(ctx, r, member)
	}
	if err := p.rec.admits(r, h.Multiuser); err != nil {
		return nil, err
	}
	p.rec.Members = append(p.rec.others(r.ID), member)
	return p.seat(nil), p.rec.write(p.path)
}

// cleared is the locked directory of the owner, with the record of a daemon that
// runs, or empty: what else there was is stopped.
func (h *Host) cleared(ctx context.Context, r Request) (*pod, error) {
	for {
		p, err := h.lockPod(ctx, r.Owner.key(), true, false)
		if err != nil || p.rec == nil || p.rec.State == Ready && p.rec.Alive() {
			return p, err
		}
		err = p.clear(ctx, r.ID)
		p.unlock()
		if err != nil {
			return nil, err
		}
	}
}

// clear removes what there is, unless others than the container still have it.
func (p *pod) clear(ctx context.Context, id string) error {
	if rest := p.rec.others(id); len(rest) > 0 && p.rec.used(rest) {
		return fmt.Errorf("the pod's MPS daemon has ended, and container %.80q still runs with what is left of it: another can be started when that has gone: %w", rest[0].ID, errdefs.ErrUnavailable)
	}
	if err := p.stop(ctx); err != nil {
		return fmt.Errorf("clear away an MPS daemon that was left: %w", err)
	}
	return nil
}

// begin starts the daemon for its first member, or leaves nothing.
func (p *pod) begin(ctx context.Context, r Request, member Member) (_ *Seat, retErr error) {
	shim, err := processOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	ns, err := process.PIDNamespace()
	if err != nil {
		return nil, err
	}
	p.rec = &Record{
		Owner: r.Owner, State: Starting, BootID: boot, PIDNamespace: ns, Began: time.Now().UTC(), Ask: r.Ask, Devices: r.Devices,
		UID: r.UID, Multiuser: p.Multiuser, Shim: shim, Members: []Member{member},
	}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, p.stop(context.WithoutCancel(ctx)))
		}
	}()
	started, err := p.start(ctx, r)
	if err != nil {
		return nil, err
	}
	p.rec.State = Ready
	return p.seat(started), p.rec.write(p.path)
}

// admits says why a container cannot use the pod's daemon as it is.
func (r *Record) admits(q Request, multiuser bool) error {
	with := "the pod"
	if len(r.Members) > 0 {
		with = fmt.Sprintf("container %.80q", r.Members[0].ID)
	}
	var what string
	switch {
	case r.Ask != q.Ask:
		what = fmt.Sprintf("%s has asked for %q, and this one asks for %q: give both the same, since the limits are the daemon's", with, r.Ask, q.Ask)
	case !slices.Equal(r.Devices, q.Devices):
		what = fmt.Sprintf("%s has %s, and this one %s: give both the same devices (berth.dev/mig-share for MIG)", with, strings.Join(r.Devices, ","), strings.Join(q.Devices, ","))
	case r.UID != q.UID && !r.Multiuser && !multiuser:
		what = fmt.Sprintf("%s runs as user %d of the host, and this one as %d, whose programs would wait until the first have ended: run both as one user, or set mps.multiuser in the configuration", with, r.UID, q.UID)
	case r.UID != q.UID && !r.Multiuser:
		what = fmt.Sprintf("%s runs as user %d of the host, and this one as %d, and the daemon was started before mps.multiuser was set: start the pod again", with, r.UID, q.UID)
	default:
		return nil
	}
	return fmt.Errorf("the containers of a pod share one MPS daemon: %s: %w", what, errdefs.ErrInvalidArgument)
}

func (r *Record) others(id string) []Member {
	return slices.DeleteFunc(slices.Clone(r.Members), func(m Member) bool { return m.ID == id })
}

// seat describes the daemon's place. Its regular files are locks, which clients
// open for writing.
func (p *pod) seat(started *process.Process) *Seat {
	s := &Seat{Pipe: p.fs(pipeName), Shm: p.fs("shm"), Daemon: p.rec.Daemon, Started: started}
	for _, f := range p.rec.Files {
		switch {
		case f.Name == pidFile:
		case f.Name == privileged:
			s.Hidden = append(s.Hidden, f.Name)
		case f.Mode.IsRegular():
			s.Writable = append(s.Writable, f.Name)
		}
	}
	return s
}
