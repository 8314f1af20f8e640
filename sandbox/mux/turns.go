// SPDX-License-Identifier: Apache-2.0

package mux

// turns are the streams that have something to send, in the order in which
// they will. The few that the session is run with (below firstShared) have every
// other turn among themselves, so that a call does not wait until each of a
// hundred processes has sent some output; the others have the rest.
type turns struct {
	queues [2]queue
	last   int // the queue that had the last turn
}

// queue is a list of streams, linked through them.
type queue struct{ head, tail *Stream }

func class(t *Stream) int {
	if t.id < firstShared {
		return 0
	}
	return 1
}

func (r *turns) push(t *Stream) {
	q := &r.queues[class(t)]
	t.queued, t.behind = true, nil
	if q.head == nil {
		q.head = t
	} else {
		q.tail.behind = t
	}
	q.tail = t
}

// first is the stream whose turn it is, nil if there is none.
func (r *turns) first() *Stream {
	if t := r.queues[1-r.last].head; t != nil {
		return t
	}
	return r.queues[r.last].head
}

// had is after the turn of t, which was first, and which may need another.
func (r *turns) had(t *Stream, again bool) {
	r.last = class(t)
	r.queues[r.last].head = t.behind
	t.queued, t.behind = false, nil
	if again {
		r.push(t)
	}
}
