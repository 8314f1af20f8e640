// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"berth/test/e2e/conformance/daemon"
)

// span is one thing that containerd does, on the clock of now.
type span struct {
	name       string
	begin, end time.Duration
}

// phase is some spans in a row, and the processes that were there meanwhile.
type phase struct {
	name      string
	spans     []span
	processes []*process
}

func (p *phase) begin() time.Duration { return p.spans[0].begin }
func (p *phase) end() time.Duration   { return p.spans[len(p.spans)-1].end }
func (p *phase) took() time.Duration  { return p.end() - p.begin() }

// do adds a span.
func (p *phase) do(name string, f func() error) error {
	begin := now()
	err := f()
	p.spans = append(p.spans, span{name, begin, now()})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// live is the life of a container, as containerd asks for it: it starts, has some
// execs, one after the other, is killed and deleted.
func live(ctx context.Context, d *daemon.Daemon, w *watch, id string, execs int) ([]*phase, error) {
	up, down := &phase{name: "start-up"}, &phase{name: "end"}
	bundle, err := d.Bundle(id, "", []string{"forever"}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = bundle.Close() }()
	req, err := d.CreateRequest(bundle, daemon.Streams{})
	if err != nil {
		return nil, err
	}
	var shim *daemon.Shim
	spec, err := typeurl.MarshalAnyToProto(daemon.Process("exit", "0"))
	if err != nil {
		return nil, err
	}
	begin := []step{
		{up, "shim start", func() (err error) { shim, err = d.Start(ctx, bundle); return err }},
		{up, "Create", func() error { _, err := shim.Task.Create(ctx, req); return err }},
		{up, "Start", func() error { _, err := shim.Task.Start(ctx, &task.StartRequest{ID: id}); return err }},
	}
	end := []step{
		{down, "Kill", func() error {
			_, err := shim.Task.Kill(ctx, &task.KillRequest{ID: id, Signal: uint32(unix.SIGKILL)})
			return err
		}},
		{down, "Wait", func() error { _, err := shim.Task.Wait(ctx, &task.WaitRequest{ID: id}); return err }},
		{down, "Delete", func() error { _, err := shim.Task.Delete(ctx, &task.DeleteRequest{ID: id}); return err }},
		{down, "Shutdown", func() error {
			_, err := shim.Task.Shutdown(ctx, &task.ShutdownRequest{ID: id})
			return ignoreClosed(errors.Join(err, shim.Close()))
		}},
		{down, "shim delete", func() error { _, err := d.Delete(bundle); return err }},
	}
	if err := take(begin); err != nil {
		return nil, err
	}
	phases := []*phase{up}
	for range execs {
		exec := &phase{name: "exec"}
		if err := take(execSteps(ctx, exec, shim, id, spec)); err != nil {
			return nil, err
		}
		phases = append(phases, exec)
	}
	if err := take(end); err != nil {
		return nil, err
	}
	if err := w.settle(); err != nil {
		return nil, err
	}
	phases = append(phases, down)
	for _, p := range phases {
		p.processes = w.descendants(p.begin(), p.end())
	}
	return phases, nil
}

// step is a call, and the phase that it is in.
type step struct {
	in   *phase
	name string
	do   func() error
}

func take(steps []step) error {
	for _, s := range steps {
		if err := s.in.do(s.name, s.do); err != nil {
			return err
		}
	}
	return nil
}

func execSteps(ctx context.Context, in *phase, shim *daemon.Shim, id string, spec *anypb.Any) []step {
	return []step{
		{in, "Exec", func() error {
			_, err := shim.Task.Exec(ctx, &task.ExecProcessRequest{ID: id, ExecID: "e", Spec: spec})
			return err
		}},
		{in, "Start", func() error {
			_, err := shim.Task.Start(ctx, &task.StartRequest{ID: id, ExecID: "e"})
			return err
		}},
		{in, "Wait", func() error {
			_, err := shim.Task.Wait(ctx, &task.WaitRequest{ID: id, ExecID: "e"})
			return err
		}},
		{in, "Delete", func() error {
			_, err := shim.Task.Delete(ctx, &task.DeleteRequest{ID: id, ExecID: "e"})
			return err
		}},
	}
}

// ignoreClosed: the shim may have closed the connection before us.
func ignoreClosed(err error) error {
	if errors.Is(err, ttrpc.ErrClosed) {
		return nil
	}
	return err
}
