// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"fmt"
	"testing"
	"time"

	"berth/test/e2e/conformance/daemon"
)

// Containerd is away while 200 events happen: all of them arrive once it is
// back, each container's in the order in which they happened.
func TestEventsWhileAway(t *testing.T) { eventsWhileAway(t, 0) }

// As above with an outage of which the control is known to lose events: it gives
// up after five attempts that take 5 s and wait 1 to 5 s each.
func TestEventsWhileAwayForLong(t *testing.T) {
	if !*longFlag {
		t.Skip("needs -long: the outage lasts 45 s")
	}
	eventsWhileAway(t, 45*time.Second)
}

func eventsWhileAway(t *testing.T, outage time.Duration) {
	h := newHost(t)
	h.extend(t, outage)
	c := h.run("away", "", nil, "forever")
	if _, err := h.Events.Await(h.ctx, 2, func(e daemon.Event) bool { return e.ExecID == "" }); err != nil {
		t.Fatalf("create and start: %v", err)
	}
	if err := h.Events.Stop(); err != nil {
		t.Fatal(err)
	}
	over := time.NewTimer(outage) // a duration is what this test is about
	defer over.Stop()
	var want []daemon.Event
	const n = 67 // execs, three events each
	for i, id := range ids("e", n) {
		pid, err := c.exec(id, daemon.Streams{}, "exit", fmt.Sprint(i))
		if err != nil {
			t.Fatalf("exec %s: %v", id, err)
		}
		if status, err := c.wait(id); err != nil || status != uint32(i) {
			t.Errorf("wait %s: status %d, error %v", id, status, err)
		}
		if _, err := c.delete(id); err != nil {
			t.Errorf("delete %s: %v", id, err)
		}
		want = append(want,
			daemon.Event{Topic: topicExecAdded, ContainerID: "away", ExecID: id},
			daemon.Event{Topic: topicExecStarted, ContainerID: "away", ExecID: id, Pid: pid},
			daemon.Event{Topic: topicExit, ContainerID: "away", ExecID: id, Pid: pid, ExitStatus: uint32(i)})
	}
	<-over.C
	if err := h.Events.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.ctx, 30*time.Second)
	defer cancel()
	last := want[len(want)-1] // not as many events: one may come twice
	if _, err := h.Events.Await(ctx, 1, func(e daemon.Event) bool { return e == last }); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	checkSequence(t, h.Events.Select(func(e daemon.Event) bool { return e.ExecID != "" && e.Topic != topicDelete }), want)
	c.remove()
}

// checkSequence wants the events in order; at-least-once delivery allows an
// event to be repeated at once.
func checkSequence(t *testing.T, got, want []daemon.Event) {
	t.Helper()
	var once []daemon.Event
	for i, event := range got {
		if i == 0 || event != got[i-1] {
			once = append(once, event)
		}
	}
	for i := range max(len(once), len(want)) {
		var g, w daemon.Event
		if i < len(once) {
			g = once[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("event %d of %d (%d came): got %+v, want %+v", i, len(want), len(once), g, w)
			return
		}
	}
}
