// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// State is where a process is in its life.
type State uint8

// The states, in the order in which a process goes through them.
const (
	Created State = iota + 1
	Running
	Paused
	Stopped
)

func (s State) String() string {
	switch s {
	case Created:
		return "created"
	case Running:
		return "running"
	case Paused:
		return "paused"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// verb is something that a state allows or refuses.
type verb uint8

const (
	verbStart verb = iota + 1
	verbExec
	verbPause
	verbResume
	verbCheckpoint
	verbUpdate
	verbKill
	verbExit
	verbDelete
)

func (v verb) String() string {
	return [...]string{"", "start", "exec in", "pause", "resume", "checkpoint", "update", "kill", "end", "delete"}[v]
}

// transitions is the whole state machine: what each state allows, and the
// state that follows. A created container may be deleted: its init is killed
// first, which makes it a stopped one.
var transitions = map[State]map[verb]State{
	Created: {verbStart: Running, verbUpdate: Created, verbKill: Created, verbExit: Stopped, verbDelete: Created},
	Running: {verbExec: Running, verbPause: Paused, verbCheckpoint: Running, verbUpdate: Running, verbKill: Running, verbExit: Stopped},
	Paused:  {verbResume: Running, verbCheckpoint: Paused, verbUpdate: Paused, verbKill: Paused, verbExit: Stopped},
	Stopped: {verbDelete: Stopped},
}

// next returns the state that follows, or errdefs.ErrFailedPrecondition.
func (s State) next(v verb) (State, error) {
	if to, ok := transitions[s][v]; ok {
		return to, nil
	}
	return s, fmt.Errorf("cannot %s a %s process: %w", v, s, errdefs.ErrFailedPrecondition)
}
