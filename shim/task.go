// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"berth/configs"
	"berth/process"
	"berth/sandbox"
)

// taskService is containerd's Task service over a pod. It holds no state: it
// only translates.
type taskService struct {
	pod *sandbox.Pod
	// version is told to clients that Connect.
	version string
	// socket is where the service is served.
	socket string
	group  configs.Group
	// end has the server end, if it may, once the answers that are owed were sent.
	end func(may func() bool)
	// moved is told when containers have come or gone.
	moved func()
}

// register serves the Task API in both versions. Their messages are the same
// on the wire; only the name of the service differs.
func (s *taskService) register(srv *ttrpc.Server) {
	desc := &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"State":      method(s.State),
		"Create":     method(s.Create),
		"Start":      method(s.Start),
		"Delete":     method(s.Delete),
		"Pids":       method(s.Pids),
		"Pause":      method(s.Pause),
		"Resume":     method(s.Resume),
		"Checkpoint": method(s.Checkpoint),
		"Kill":       method(s.Kill),
		"Exec":       method(s.Exec),
		"ResizePty":  method(s.ResizePty),
		"CloseIO":    method(s.CloseIO),
		"Update":     method(s.Update),
		"Wait":       method(s.Wait),
		"Stats":      method(s.Stats),
		"Connect":    method(s.Connect),
		"Shutdown":   method(s.Shutdown),
	}}
	if s.group == configs.PerNode {
		srv.RegisterService(nodeService, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{announceMethod: method(s.Announce)}})
	}
	srv.RegisterService(ownService, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{letGoMethod: method(s.LetGo)}})
	srv.RegisterService("containerd.task.v2.Task", desc)
	srv.RegisterService("containerd.task.v3.Task", desc)
}

// method makes a ttrpc method of a typed function.
func method[Req any, P interface {
	*Req
	proto.Message
}, Res proto.Message](f func(context.Context, P) (Res, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		req := P(new(Req))
		if err := unmarshal(req); err != nil {
			return nil, fmt.Errorf("decode the request: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return f(ctx, req)
	}
}

var empty = &emptypb.Empty{}

// Create makes a container.
func (s *taskService) Create(ctx context.Context, r *taskv3.CreateTaskRequest) (*taskv3.CreateTaskResponse, error) {
	opts, err := decodeOptions(r.Options)
	if err != nil {
		return nil, err
	}
	req := &sandbox.CreateRequest{
		ID: r.ID, Bundle: r.Bundle,
		Stdio:   process.Stdio{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
		Options: opts, Checkpoint: r.Checkpoint, ParentCheckpoint: r.ParentCheckpoint,
	}
	for _, m := range r.Rootfs {
		req.Rootfs = append(req.Rootfs, sandbox.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	pid, err := s.pod.Create(ctx, req)
	if err != nil {
		s.end(s.pod.CloseUnwanted)
		return nil, err
	}
	s.moved()
	// A container that joins a sandbox comes without a `start` to do this.
	err = errors.Join(noteAddress(r.Bundle, s.socket), noteSocketDir(r.Bundle, filepath.Dir(s.socket)))
	if err != nil {
		log.L.WithError(err).Warn("neither containerd 1.7 nor a later delete would find this shim by the bundle")
	}
	return &taskv3.CreateTaskResponse{Pid: uint32(pid)}, nil
}

// Start starts the init or an exec.
func (s *taskService) Start(ctx context.Context, r *taskv3.StartRequest) (*taskv3.StartResponse, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	pid, err := c.Start(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &taskv3.StartResponse{Pid: uint32(pid)}, nil
}

// Delete deletes the container or an exec.
func (s *taskService) Delete(ctx context.Context, r *taskv3.DeleteRequest) (*taskv3.DeleteResponse, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	d, err := c.Delete(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.ExecID == "" {
		s.moved()
		if ctx.Err() != nil {
			// Who would call Shutdown now has gone. A containerd that has come back
			// meanwhile has met the container, and will not ask either.
			s.end(s.pod.CloseIdle)
		}
	}
	return &taskv3.DeleteResponse{Pid: uint32(d.Pid), ExitStatus: uint32(d.Exit.Status), ExitedAt: exitedAt(d.Exit)}, nil
}

// Exec adds a process.
func (s *taskService) Exec(_ context.Context, r *taskv3.ExecProcessRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	spec, err := execSpec(r.Spec, r.Terminal)
	if err != nil {
		return nil, err
	}
	return empty, c.Exec(sandbox.ExecRequest{
		ID: r.ExecID, Process: spec,
		Stdio: process.Stdio{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
}

// execSpec is the OCI process of an exec. Whether it has a terminal is said by
// the request. All else stays as the client wrote it.
func execSpec(spec *anypb.Any, terminal bool) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(spec.GetValue(), &fields); err != nil {
		return nil, fmt.Errorf("the exec's spec is no OCI process: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if fields == nil {
		return nil, fmt.Errorf("the exec has no spec: %w", errdefs.ErrInvalidArgument)
	}
	fields["terminal"], _ = json.Marshal(terminal)
	return json.Marshal(fields)
}

// State answers from memory.
func (s *taskService) State(_ context.Context, r *taskv3.StateRequest) (*taskv3.StateResponse, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	st, err := c.Status(r.ExecID)
	if err != nil {
		return nil, err
	}
	id := r.ID
	if r.ExecID != "" {
		id = r.ExecID
	}
	return &taskv3.StateResponse{
		ID: id, Bundle: c.Bundle(), Pid: uint32(st.Pid), Status: taskStatus(st.State),
		Stdin: st.Stdio.Stdin, Stdout: st.Stdio.Stdout, Stderr: st.Stdio.Stderr, Terminal: st.Stdio.Terminal,
		ExitStatus: uint32(st.Exit.Status), ExitedAt: exitedAt(st.Exit), ExecID: r.ExecID,
	}, nil
}

func taskStatus(s sandbox.State) task.Status {
	switch s {
	case sandbox.Created:
		return task.Status_CREATED
	case sandbox.Running:
		return task.Status_RUNNING
	case sandbox.Paused:
		return task.Status_PAUSED
	case sandbox.Stopped:
		return task.Status_STOPPED
	}
	return task.Status_UNKNOWN
}

// exitedAt is the zero timestamp, as containerd has it, before an exit.
func exitedAt(e process.Exit) *timestamppb.Timestamp { return timestamppb.New(e.At) }

// Wait waits for an exit.
func (s *taskService) Wait(ctx context.Context, r *taskv3.WaitRequest) (*taskv3.WaitResponse, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	exit, err := c.Wait(ctx, r.ExecID)
	if err != nil {
		return nil, err
	}
	return &taskv3.WaitResponse{ExitStatus: uint32(exit.Status), ExitedAt: exitedAt(exit)}, nil
}

// Connect tells who serves.
func (s *taskService) Connect(_ context.Context, r *taskv3.ConnectRequest) (*taskv3.ConnectResponse, error) {
	res := &taskv3.ConnectResponse{ShimPid: uint32(os.Getpid()), Version: s.version}
	if c, err := s.pod.Container(r.ID); err == nil {
		st, _ := c.Status("") // there is always an init
		res.TaskPid = uint32(st.Pid)
	}
	return res, nil
}

// Shutdown ends the shim once it serves nobody. With containers left it stays;
// with one on the way too, unless that comes to nothing: containerd shuts down
// the shim of a create that it gave up, while that is still being undone. Who
// wants a shim to end now means that of a pod.
func (s *taskService) Shutdown(_ context.Context, r *taskv3.ShutdownRequest) (*emptypb.Empty, error) {
	idle := s.pod.Dismiss(r.ID)
	switch {
	case r.Now && s.group != configs.PerNode:
		s.end(func() bool { return true })
	case idle:
		s.end(s.pod.CloseIdle)
	}
	return empty, nil
}
