// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"sync"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
)

// The shim of a pod is killed and "delete" is executed for all its containers
// at once, twice: nothing is left, and each exit is the true one.
func TestShimKilled(t *testing.T) {
	h := newHost(t)
	exited := h.run("exited", "pod", nil, "exit", "7")
	running := []*container{h.run("one", "pod", nil, "forever"), h.run("two", "pod", nil, "forever")}
	if status, err := exited.wait(""); err != nil || status != 7 {
		t.Fatalf("exited: status %d, error %v", status, err)
	}
	state, err := exited.shim.Task.State(h.ctx, &task.StateRequest{ID: "exited"})
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	// Where the exit was told, it is on disk.
	if _, err := h.Events.Await(h.ctx, 1, exits); err != nil {
		t.Fatal(err)
	}
	var inits []int
	for _, c := range running {
		fd, err := unix.PidfdOpen(int(c.pid), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		inits = append(inits, fd)
	}
	killShim(exited)
	for round := range 2 {
		answers := deleteAll(h, append([]*container{exited}, running...))
		if a := answers[0]; a != nil && (a.ExitStatus != 7 || a.Pid != exited.pid || !a.ExitedAt.AsTime().Equal(state.ExitedAt.AsTime())) {
			t.Errorf("round %d: delete of the exited container: %v, want status 7, pid %d, time %v", round, a, exited.pid, state.ExitedAt.AsTime())
		}
		for _, a := range answers[1:] {
			if a != nil && a.ExitStatus != 137 {
				t.Errorf("round %d: delete of a running container: %v, want status 137", round, a)
			}
		}
		for _, fd := range inits {
			if !died(fd) {
				t.Error("a container runs after delete")
			}
		}
	}
}

// killShim kills the shim and waits for its death.
func killShim(c *container) {
	c.t.Helper()
	fd, err := unix.PidfdOpen(c.shimPid(), 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		c.t.Fatal(err)
	}
	if !died(fd) {
		c.t.Fatal("the shim did not die")
	}
}

// deleteAll executes "delete" for all at the same time.
func deleteAll(h *host, all []*container) []*task.DeleteResponse {
	h.t.Helper()
	answers := make([]*task.DeleteResponse, len(all))
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() {
			answer, err := h.Delete(c.bundle)
			if err != nil {
				h.t.Errorf("delete %s: %v", c.bundle.ID, err)
				return
			}
			answers[i] = answer
		})
	}
	group.Wait()
	return answers
}

// The shim is killed while a container is there that was created and not
// started: "delete" alone clears it away.
func TestShimKilledAfterCreate(t *testing.T) {
	h := newHost(t)
	c := h.prepare("created", "", nil, "forever")
	if err := c.create(noStreams); err != nil {
		t.Fatalf("create: %v", err)
	}
	killShim(c)
	deleteAll(h, []*container{c})
}

// A SIGKILL of an init under a living shim, then the whole way out: the second
// "delete" has nothing to do and says so by succeeding.
func TestDeleteTwice(t *testing.T) {
	h := newHost(t)
	c := h.run("twice", "", nil, "forever")
	if err := unix.Kill(int(c.pid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.remove()
	if _, err := h.Delete(c.bundle); err != nil {
		t.Errorf("second delete: %v", err)
	}
}
