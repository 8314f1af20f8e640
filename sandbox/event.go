// SPDX-License-Identifier: Apache-2.0

package sandbox

import "berth/process"

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
	// Told is of Berth's own making, and about the pod: see Pod.Tell.
	Told
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
	// Checkpoint is the image directory of a TaskCheckpointed.
	Checkpoint string
	// Notice is set for Told.
	Notice *Notice
}

// Notice is an event that containerd passes on and does not know: a topic, and
// a protobuf message that is encoded already, with the full name of its type.
type Notice struct {
	Topic, Type string
	Value       []byte
}

// Sink takes the events of all containers. The events of one container come
// one at a time and in order; those of different containers may come at once.
// It must not call back into the pod, and it must not wait for containerd.
type Sink func(Event)

// Tell hands a notice to the sink. It is in no order with the events of the
// containers.
func (p *Pod) Tell(n Notice) { p.cfg.Sink(Event{Kind: Told, Notice: &n}) }
