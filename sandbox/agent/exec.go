// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
	"berth/sandbox/agentapi"
)

// Exec starts one more process.
func (s *server) Exec(ctx context.Context, r *agentapi.ExecRequest) (*agentapi.Empty, error) {
	c, err := s.container(r.Container)
	if err != nil {
		return nil, err
	}
	p := &proc{number: r.Process, container: c.id}
	if p.stdio, err = s.openStdio(ctx, opening{c.id, r.Process, r.Stdio, r.IoUid, r.IoGid}); err != nil {
		return nil, err
	}
	if err := s.starting.take(ctx); err != nil {
		return nil, errors.Join(err, p.stdio.close())
	}
	defer s.starting.leave()
	p.os, err = c.rt.Exec(ctx, &oci.ExecRequest{
		ID: c.id, ExecID: strconv.FormatUint(r.Process, 10), Bundle: c.bundle, Process: r.Spec, Streams: p.stdio,
	})
	if err != nil {
		return nil, errors.Join(err, p.stdio.close())
	}
	if err := p.stdio.Attach(ctx); err != nil {
		return nil, errors.Join(err, killAndWait(p.os), p.stdio.close())
	}
	s.watch(c, p)
	return &agentapi.Empty{}, nil
}

// killAndWait ends a process that nobody will hear of.
func killAndWait(p *process.Process) error {
	_ = p.Signal(unix.SIGKILL) // not found: it is dead
	timer := time.NewTimer(undoTimeout)
	defer timer.Stop()
	select {
	case <-p.Done():
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d does not end after SIGKILL", p.Pid())
	}
}

// Resize sets the size of a terminal.
func (s *server) Resize(_ context.Context, r *agentapi.ResizeRequest) (*agentapi.Empty, error) {
	p, err := s.proc(r.Process)
	if err != nil {
		return nil, err
	}
	return &agentapi.Empty{}, p.stdio.Resize(uint16(r.Width), uint16(r.Height))
}

// Drain waits until a process's output was sent.
func (s *server) Drain(ctx context.Context, r *agentapi.ProcessRequest) (*agentapi.DrainResponse, error) {
	p, err := s.proc(r.Process)
	if err != nil {
		return nil, err
	}
	sent, err := p.stdio.drain(ctx)
	if err != nil {
		return nil, err
	}
	return &agentapi.DrainResponse{Stdout: sent[0], Stderr: sent[1]}, nil
}

// Release closes the streams of a process. An exec is forgotten with it.
func (s *server) Release(_ context.Context, r *agentapi.ProcessRequest) (*agentapi.Empty, error) {
	p, err := s.proc(r.Process)
	if err != nil {
		return nil, err
	}
	err = p.stdio.close()
	s.mu.Lock()
	if c := s.containers[p.container]; c == nil || c.init != p {
		delete(s.procs, p.number)
	}
	s.mu.Unlock()
	return &agentapi.Empty{}, err
}
