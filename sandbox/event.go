// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"berth/hooks"
	"berth/process"
)

// Kind says what an Event tells.
type Kind uint8

// The kinds of event, as containerd's runtime contract names them.
const (
	TaskCreate Kind = iota + 1
	TaskStart
	TaskExit
	TaskDelete
	TaskOOM
	TaskExecAdded
	TaskExecStarted
	TaskPaused
	TaskResumed
	TaskCheckpointed
	HookEvent // of a hook's own
)

// Event is one thing that happened to a container.
type Event struct {
	Kind      Kind
	Container string
	// Exec is empty where the event is about the container or its init.
	Exec string
	Pid  int
	// Exit is set for TaskExit and TaskDelete.
	Exit process.Exit
	// Create is set for TaskCreate. It is not to be changed.
	Create *CreateRequest
	// Hook is set for HookEvent.
	Hook hooks.Event
	// Checkpoint is the image directory of a TaskCheckpointed.
	Checkpoint string
}

// Sink takes the events of all containers. The events of one container come
// one at a time and in order; those of different containers may come at once.
// It must not call back into the pod, and it must not wait for containerd.
type Sink func(Event)
