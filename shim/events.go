// SPDX-License-Identifier: Apache-2.0

package shim

import (
	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"berth/sandbox"
)

// message is a sandbox's event as containerd knows it: topic and payload
// (containerd, core/runtime/events.go). A kind that it does not know has none.
func message(e sandbox.Event) (topic string, m proto.Message) {
	id, pid := e.Container, uint32(e.Pid)
	switch e.Kind {
	case sandbox.TaskCreate:
		return "/tasks/create", taskCreate(e)
	case sandbox.TaskStart:
		return "/tasks/start", &eventsapi.TaskStart{ContainerID: id, Pid: pid}
	case sandbox.TaskExit:
		exit := &eventsapi.TaskExit{ContainerID: id, ID: e.Exec, Pid: pid, ExitStatus: uint32(e.Exit.Status), ExitedAt: exitedAt(e.Exit)}
		if e.Exec == "" {
			exit.ID = id // how containerd tells an init's exit from an exec's
		}
		return "/tasks/exit", exit
	case sandbox.TaskDelete:
		return "/tasks/delete", &eventsapi.TaskDelete{ContainerID: id, Pid: pid, ExitStatus: uint32(e.Exit.Status), ExitedAt: exitedAt(e.Exit)}
	case sandbox.TaskOOM:
		return "/tasks/oom", &eventsapi.TaskOOM{ContainerID: id}
	case sandbox.TaskExecAdded:
		return "/tasks/exec-added", &eventsapi.TaskExecAdded{ContainerID: id, ExecID: e.Exec}
	case sandbox.TaskExecStarted:
		return "/tasks/exec-started", &eventsapi.TaskExecStarted{ContainerID: id, ExecID: e.Exec, Pid: pid}
	case sandbox.TaskPaused:
		return "/tasks/paused", &eventsapi.TaskPaused{ContainerID: id}
	case sandbox.TaskResumed:
		return "/tasks/resumed", &eventsapi.TaskResumed{ContainerID: id}
	case sandbox.TaskCheckpointed:
		return "/tasks/checkpointed", &eventsapi.TaskCheckpointed{ContainerID: id, Checkpoint: e.Checkpoint}
	case sandbox.HookEvent:
		return e.Hook.Topic, &anypb.Any{TypeUrl: e.Hook.TypeURL, Value: e.Hook.Value}
	}
	return "", nil
}

func taskCreate(e sandbox.Event) *eventsapi.TaskCreate {
	r := e.Create
	m := &eventsapi.TaskCreate{
		ContainerID: e.Container, Bundle: r.Bundle, Pid: uint32(e.Pid), Checkpoint: r.Checkpoint,
		IO: &eventsapi.TaskIO{Stdin: r.Stdio.Stdin, Stdout: r.Stdio.Stdout, Stderr: r.Stdio.Stderr, Terminal: r.Stdio.Terminal},
	}
	for _, mnt := range r.Rootfs {
		m.Rootfs = append(m.Rootfs, &types.Mount{Type: mnt.Type, Source: mnt.Source, Target: mnt.Target, Options: mnt.Options})
	}
	return m
}
