// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"fmt"
	"os"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The second container of a pod lives in the PID namespace of the first. A
// process that its init left behind is killed when that init exits, since the
// kernel would not do it, and the first container lives on.
func TestSharedPIDNamespace(t *testing.T) {
	h := newHost(t)
	first := h.run("first", "pod", nil, "forever")
	second := h.run("second", "pod", func(spec *specs.Spec) {
		for i, ns := range spec.Linux.Namespaces {
			if ns.Type == specs.PIDNamespace {
				spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/pid", first.pid)
			}
		}
	}, "orphan", h.gate("ready"), h.gate("gate"), "6")
	h.open("ready", os.O_RDONLY)
	orphan := watchOther(second)
	defer unix.Close(orphan)
	h.open("gate", os.O_WRONLY)
	if status, err := second.wait(""); err != nil || status != 6 {
		t.Errorf("second: status %d, error %v; want 6", status, err)
	}
	if !died(orphan) {
		t.Error("what the second container's init left is alive after its exit")
	}
	resp, err := first.shim.Task.State(h.ctx, &task.StateRequest{ID: "first"})
	if err != nil || resp.GetExitStatus() != 0 || resp.GetPid() != first.pid {
		t.Errorf("first: %v, error %v", resp, err)
	}
	if _, err := second.delete(""); err != nil {
		t.Errorf("delete second: %v", err)
	}
	second.leave()
	first.remove()
}

// watchOther returns a pidfd of the one process of a container that is not its
// init.
func watchOther(c *container) int {
	c.t.Helper()
	resp, err := c.shim.Task.Pids(c.ctx, &task.PidsRequest{ID: c.bundle.ID})
	if err != nil {
		c.t.Fatalf("pids: %v", err)
	}
	for _, p := range resp.Processes {
		if p.Pid != c.pid {
			fd, err := unix.PidfdOpen(int(p.Pid), 0)
			if err != nil {
				c.t.Fatalf("watch process %d: %v", p.Pid, err)
			}
			return fd
		}
	}
	c.t.Fatalf("pids of %s: %v: no second process", c.bundle.ID, resp.Processes)
	return -1
}

// died waits, bounded, until the process of a pidfd is dead.
func died(pidfd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
}
