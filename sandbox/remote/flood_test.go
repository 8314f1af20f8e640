// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"berth/sandbox/agentapi"
	"berth/sandbox/runtimetest"
)

// A guest that tells without end what nobody asked for is killed, whether it
// means anything or not.
func TestHostileFlood(t *testing.T) {
	needRoot(t)
	oom := func(container string) *agentapi.Event {
		return &agentapi.Event{Event: &agentapi.Event_Oom{Oom: &agentapi.OOM{Container: container, Kills: 0}}}
	}
	for name, event := range map[string]func(gone uint64, b *runtimetest.Box) *agentapi.Event{
		"exits of a process that has gone": func(gone uint64, _ *runtimetest.Box) *agentapi.Event { return exitOf(gone, 0) },
		"OOM kills of no container":        func(uint64, *runtimetest.Box) *agentapi.Event { return oom("none") },
		"OOM kills of a container":         func(_ uint64, b *runtimetest.Box) *agentapi.Event { return oom(b.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDen(t)
			early, b := d.Box("a", "").Run(), d.Box("b", "").Run()
			gone := d.process(0)
			d.tell(exitOf(gone, 0))
			early.Wait("")
			early.Delete("")
			flood := slices.Repeat([]*agentapi.Event{event(gone, b)}, freeEvents+1)
			for round := 0; !closed(d.machine.Done()); round++ {
				if round == 20 {
					d.machine.Kill(errors.New("it told what it liked"))
				}
				d.tell(flood...)
			}
			d.dies(b, "more than 10000 events within 10s")
		})
	}
}

func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// What a guest may tell is measured in time: one that was quiet may tell again.
func TestAllowance(t *testing.T) {
	var a allowance
	now := time.Now()
	for range 3 {
		for n := range freeEvents {
			if err := a.spend(now); err != nil {
				t.Fatalf("event %d: %v", n, err)
			}
		}
		now = now.Add(freePeriod)
	}
	now = now.Add(-time.Nanosecond)
	if err := a.spend(now); err == nil {
		t.Error("one event too many was heard")
	}
}

// All that a stream holds of a guest that keeps to the protocol may come at once.
func TestAllowanceCoversWindow(t *testing.T) {
	var least bytes.Buffer
	if err := agentapi.WriteEvent(&least, &agentapi.Event{Event: &agentapi.Event_Oom{Oom: &agentapi.OOM{Container: "c", Kills: 1}}}); err != nil {
		t.Fatal(err)
	}
	if most := agentapi.EventWindow / least.Len(); most > freeEvents {
		t.Errorf("%d events of %d bytes may be on their way", most, least.Len())
	}
}
