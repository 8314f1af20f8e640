// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

// hang has a pod's create hang in one way, and end again.
type hang struct {
	edit  func(h *host, spec *specs.Spec)
	begin func(h *host, c *container, req *task.CreateTaskRequest) (end func())
}

var hangs = map[string]hang{
	// The library waits for a program that does not end.
	"hook": {
		edit: func(h *host, spec *specs.Spec) {
			script := "echo > " + h.hostGate("reached") + "; read x < " + h.hostGate("held")
			spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}}}}
		},
		begin: func(h *host, c *container, _ *task.CreateTaskRequest) func() {
			return func() { h.release("held") }
		},
	},
	// The shim itself waits at a file of the bundle, and cannot be interrupted.
	"bundle": {
		begin: func(h *host, c *container, _ *task.CreateTaskRequest) func() {
			dir := filepath.Join(h.Dir, "hung")
			end := hungFileSystem(h, dir)
			config := filepath.Join(c.bundle.Dir, "config.json")
			if err := os.Remove(config); err != nil {
				h.t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(dir, "config.json"), config); err != nil {
				h.t.Fatal(err)
			}
			return end
		},
	},
	// Whoever looks at the root file system waits likewise.
	"rootfs": {
		begin: func(h *host, c *container, req *task.CreateTaskRequest) func() {
			dir := filepath.Join(h.Dir, "hung")
			end := hungFileSystem(h, dir)
			req.Rootfs = []*types.Mount{{Type: "bind", Source: dir, Options: []string{"rbind", "ro"}}}
			return end
		},
	},
}

// hungFileSystem mounts one whose server (fuse(4)) answers nothing, until end.
func hungFileSystem(h *host, dir string) (end func()) {
	h.t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		h.t.Skipf("a file system that hangs needs FUSE: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)); err != nil {
		h.t.Fatal(err)
	}
	closed := false
	end = func() {
		if !closed {
			closed = true
			_ = unix.Close(fd) // who waits gets ENOTCONN
		}
	}
	h.t.Cleanup(func() {
		end()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			h.t.Errorf("unmount: %v", err)
		}
	})
	return end
}

// With one shim for all pods a pod whose create hangs, in whatever, holds up the life of no
// other one, and nothing is asked of it that does not answer. It is given up like any other,
// and leaves nothing once the hang is over.
func TestNodeHungPodSparesOthers(t *testing.T) {
	for name, hang := range hangs {
		t.Run(name, func(t *testing.T) {
			h := newNode(t)
			edit := func(spec *specs.Spec) {
				if hang.edit != nil {
					hang.edit(h, spec)
				}
			}
			neighbour := h.announced("good")
			neighbour.up()
			stuck := h.prepare("stuck", "", edit, "forever")
			req, err := h.CreateRequest(stuck.bundle, daemon.Streams{})
			if err != nil {
				t.Fatal(err)
			}
			end := hang.begin(h, stuck, req)
			ctx, cancel := context.WithCancel(h.ctx)
			defer cancel()
			created := make(chan error, 1)
			caller := stuck.redial()
			go func() { _, err := caller.shim.Task.Create(ctx, req); created <- err }()
			if name == "hook" {
				h.open("reached", os.O_RDONLY)
			} else {
				h.await("the shim waits", func() bool { return waits(stuck) })
			}
			state, stop := context.WithTimeout(h.ctx, patience)
			defer stop()
			if _, err := stuck.shim.Task.State(state, &task.StateRequest{ID: "stuck"}); !errdefs.IsNotFound(native(err)) {
				t.Errorf("the state of what is not made yet: %v", err)
			}
			probe(neighbour)
			lives(neighbour)
			other := h.announced("other")
			other.up()
			lives(other)
			select {
			case err := <-created:
				t.Errorf("the create did not hang: %v", err)
			default:
			}
			cancel() // containerd gives it up
			<-created
			end()
			stuck.leave()
		})
	}
}

// waits tells whether the shim, or what it has forked, is in the kernel and cannot be
// interrupted (proc_pid_stat(5)).
func waits(c *container) bool {
	shim := c.shimPid()
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", shim))
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", shim))
	for _, file := range children {
		pids, _ := os.ReadFile(file)
		for _, pid := range strings.Fields(string(pids)) {
			stats = append(stats, "/proc/"+pid+"/stat")
		}
	}
	for _, file := range stats {
		stat, _ := os.ReadFile(file)
		if _, state, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(state, "D") {
			return true
		}
	}
	return false
}

// lives takes a container from a running one to none, while another hangs.
func lives(c *container) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	bounded := *c
	bounded.host = &host{Daemon: c.Daemon, t: c.t, ctx: ctx}
	if _, err := bounded.exec("alive", noStreams, "exit", "5"); err != nil {
		c.t.Errorf("exec in %s: %v", c.bundle.ID, err)
	} else if status, err := bounded.wait("alive"); err != nil || status != 5 {
		c.t.Errorf("wait for the exec in %s: status %d, error %v", c.bundle.ID, status, err)
	}
	bounded.remove()
}
