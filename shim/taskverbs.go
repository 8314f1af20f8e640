// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"context"
	"encoding/json"
	"fmt"

	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Pids lists the container's processes.
func (s *taskService) Pids(_ context.Context, r *taskv3.PidsRequest) (*taskv3.PidsResponse, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	pids, err := c.Pids()
	if err != nil {
		return nil, err
	}
	res := &taskv3.PidsResponse{}
	for _, p := range pids {
		info := &task.ProcessInfo{Pid: uint32(p.Pid)}
		if p.Exec != "" {
			details := &options.ProcessDetails{ExecID: p.Exec}
			if info.Info, err = marshalAny(details); err != nil {
				return nil, err
			}
		}
		res.Processes = append(res.Processes, info)
	}
	return res, nil
}

// marshalAny packs a message under its plain full name, as containerd's
// typeurl does, without the host part that anypb.New would put before it.
func marshalAny(m proto.Message) (*anypb.Any, error) {
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: value}, nil
}

// Pause freezes the container.
func (s *taskService) Pause(ctx context.Context, r *taskv3.PauseRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Pause(ctx)
}

// Resume thaws it.
func (s *taskService) Resume(ctx context.Context, r *taskv3.ResumeRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	return empty, c.Resume(ctx)
}

// Checkpoint writes the container's state to disk.
func (s *taskService) Checkpoint(ctx context.Context, r *taskv3.CheckpointTaskRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	opts, err := decodeCheckpointOptions(r.Options)
	if err != nil {
		return nil, err
	}
	if r.Path != "" {
		opts.ImagePath = r.Path
	}
	return empty, c.Checkpoint(ctx, opts)
}

// Kill sends a signal.
func (s *taskService) Kill(ctx context.Context, r *taskv3.KillRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	if r.Signal == 0 || r.Signal > maxSignal {
		return nil, fmt.Errorf("signal %d: signals are 1 to %d: %w", r.Signal, maxSignal, errdefs.ErrInvalidArgument)
	}
	return empty, c.Kill(ctx, r.ExecID, unix.Signal(r.Signal), r.All)
}

// maxSignal is SIGRTMAX, signal(7).
const maxSignal = 64

// ResizePty sets a terminal's size.
func (s *taskService) ResizePty(_ context.Context, r *taskv3.ResizePtyRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	const maxSize = 1<<16 - 1 // struct winsize, ioctl_tty(2)
	return empty, c.Resize(r.ExecID, uint16(min(r.Width, maxSize)), uint16(min(r.Height, maxSize)))
}

// CloseIO closes a process's stdin.
func (s *taskService) CloseIO(_ context.Context, r *taskv3.CloseIORequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	if !r.Stdin {
		return empty, nil
	}
	return empty, c.CloseStdin(r.ExecID)
}

// Update changes resources.
func (s *taskService) Update(ctx context.Context, r *taskv3.UpdateTaskRequest) (*emptypb.Empty, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	resources := r.Resources.GetValue()
	if !json.Valid(resources) {
		return nil, fmt.Errorf("the resources are no JSON, but %q: %w", r.Resources.GetTypeUrl(), errdefs.ErrInvalidArgument)
	}
	return empty, c.Update(ctx, resources)
}

// Stats reads the container's metrics.
func (s *taskService) Stats(_ context.Context, r *taskv3.StatsRequest) (*taskv3.StatsResponse, error) {
	c, err := s.pod.Container(r.ID)
	if err != nil {
		return nil, err
	}
	value, typeURL, err := c.Stats(nil)
	if err != nil {
		return nil, err
	}
	return &taskv3.StatsResponse{Stats: &anypb.Any{TypeUrl: typeURL, Value: value}}, nil
}
