// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

const (
	topicExit        = "/tasks/exit"
	topicExecAdded   = "/tasks/exec-added"
	topicExecStarted = "/tasks/exec-started"
	topicDelete      = "/tasks/delete"
)

func exits(e daemon.Event) bool { return e.Topic == topicExit }

// checkExec wants added < started < exit, each exactly once, and the status
// given, among the events of one exec.
func checkExec(h *host, container, exec string, pid, status uint32) {
	h.t.Helper()
	events := h.Events.Select(func(e daemon.Event) bool {
		return e.ContainerID == container && e.ExecID == exec && e.Topic != topicDelete
	})
	want := []daemon.Event{
		{Topic: topicExecAdded, ContainerID: container, ExecID: exec},
		{Topic: topicExecStarted, ContainerID: container, ExecID: exec, Pid: pid},
		{Topic: topicExit, ContainerID: container, ExecID: exec, Pid: pid, ExitStatus: status},
	}
	if fmt.Sprint(events) != fmt.Sprint(want) {
		h.t.Errorf("events of %s/%s:\n got %+v\nwant %+v", container, exec, events, want)
	}
}

// 64 execs at once, each with an exit code of its own: every code comes back to
// the exec that had it, once, through Wait and through the events.
func TestExecStorm(t *testing.T) {
	h := newHost(t)
	c := h.run("storm", "", nil, "forever")
	const n = 64
	pids := make([]uint32, n)
	var group sync.WaitGroup
	for i, id := range ids("e", n) {
		group.Go(func() {
			pid, err := c.exec(id, daemon.Streams{}, "exit", fmt.Sprint(i+1))
			if err != nil {
				t.Errorf("exec %s: %v", id, err)
				return
			}
			pids[i] = pid
			if status, err := c.wait(id); err != nil || status != uint32(i+1) {
				t.Errorf("wait %s: status %d, error %v; want %d", id, status, err, i+1)
			}
		})
	}
	group.Wait()
	if _, err := h.Events.Await(h.ctx, n, exits); err != nil {
		t.Error(err)
	}
	for i, id := range ids("e", n) {
		checkExec(h, "storm", id, pids[i], uint32(i+1))
		if resp, err := c.delete(id); err != nil || resp.ExitStatus != uint32(i+1) {
			t.Errorf("delete %s: %v, error %v", id, resp, err)
		}
	}
	c.remove()
}

// Execs that live when their init is killed end before it, as the events tell.
func TestExecExitsPrecedeInits(t *testing.T) {
	h := newHost(t)
	c := h.run("precede", "", nil, "forever")
	const n = 8
	for _, id := range ids("e", n) {
		if _, err := c.exec(id, daemon.Streams{}, "ready", h.gate(id)); err != nil {
			t.Fatal(err)
		}
		h.open(id, os.O_RDONLY)
	}
	if err := c.kill(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	events, err := h.Events.Await(h.ctx, n+1, exits)
	if err != nil {
		t.Error(err)
	}
	for i, event := range events {
		if event.ExitStatus != 137 {
			t.Errorf("exit %+v, want status 137", event)
		}
		if (event.ExecID == "") != (i == n) {
			t.Errorf("exit %d of %d is %+v: the init's must be the last", i+1, n+1, event)
		}
	}
	c.remove()
}

// Execs started while the init dies: each Start either fails or is followed by
// exactly one exit, which precedes the init's.
func TestExecStartedWhileInitDies(t *testing.T) {
	h := newHost(t)
	const rounds, n = 6, 8
	for round, name := range ids("dying", rounds) {
		c := h.run(name, "", nil, "gate", h.gate(name), "3")
		var group sync.WaitGroup
		started := make([]bool, n)
		for i, id := range ids("e", n) {
			group.Go(func() {
				if i == round%n {
					if err := h.meet(name, os.O_WRONLY); err != nil {
						t.Errorf("let the init go: %v", err)
					}
				}
				_, err := c.exec(id, daemon.Streams{}, "forever")
				started[i] = err == nil
			})
		}
		group.Wait()
		if status, err := c.wait(""); err != nil || status != 3 {
			t.Errorf("init: status %d, error %v; want 3", status, err)
		}
		ofThis := func(e daemon.Event) bool { return exits(e) && e.ContainerID == name }
		if _, err := h.Events.Await(h.ctx, 1, func(e daemon.Event) bool { return ofThis(e) && e.ExecID == "" }); err != nil {
			t.Fatal(err)
		}
		checkDying(h, name, started, h.Events.Select(ofThis))
		c.remove()
	}
}

func checkDying(h *host, container string, started []bool, events []daemon.Event) {
	h.t.Helper()
	if last := events[len(events)-1]; last.ExecID != "" {
		h.t.Errorf("%s: the last exit is %+v, not the init's", container, last)
	}
	count := map[string]int{}
	for _, event := range events {
		count[event.ExecID]++
	}
	for i, id := range ids("e", len(started)) {
		if started[i] && count[id] != 1 {
			h.t.Errorf("%s: exec %s was started and had %d exits", container, id, count[id])
		}
		if !started[i] && count[id] > 1 {
			h.t.Errorf("%s: exec %s was not started and had %d exits", container, id, count[id])
		}
	}
}
