// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

var noStreams = daemon.Streams{}

// want checks the class of an error.
func want(t *testing.T, what string, err error, is func(error) bool, class string) {
	t.Helper()
	if !is(err) {
		t.Errorf("%s: %v; want %s", what, err, class)
	}
}

func TestStartTwice(t *testing.T) {
	h := newHost(t)
	c := h.run("c", "", nil, "forever")
	want(t, "second start", c.start(), errdefs.IsFailedPrecondition, "FailedPrecondition")
	c.remove()
}

func TestStartAfterExit(t *testing.T) {
	h := newHost(t)
	c := h.run("c", "", nil, "exit", "0")
	if _, err := c.wait(""); err != nil {
		t.Fatal(err)
	}
	want(t, "start after exit", c.start(), errdefs.IsFailedPrecondition, "FailedPrecondition")
	_, err := c.exec("e", noStreams, "exit", "0")
	want(t, "exec after exit", err, errdefs.IsFailedPrecondition, "FailedPrecondition")
	want(t, "kill after exit", c.kill(unix.SIGTERM), errdefs.IsNotFound, "NotFound")
	c.remove()
}

func TestDeleteOfRunning(t *testing.T) {
	h := newHost(t)
	c := h.run("c", "", nil, "forever")
	_, err := c.delete("")
	want(t, "delete of a running task", err, errdefs.IsFailedPrecondition, "FailedPrecondition")
	c.remove()
}

func TestDoubleCreate(t *testing.T) {
	h := newHost(t)
	c := h.run("c", "", nil, "forever")
	pid := c.pid
	want(t, "second create", c.create(noStreams), errdefs.IsAlreadyExists, "AlreadyExists")
	c.pid = pid
	resp, err := c.shim.Task.State(h.ctx, &task.StateRequest{ID: "c"})
	if err != nil || resp.Pid != pid {
		t.Errorf("state: %v, error %v; want pid %d", resp, err, pid)
	}
	if err := c.addExec("e", noStreams, []string{"/bin/payload", "exit", "0"}); err != nil {
		t.Errorf("exec: %v", err)
	}
	want(t, "second exec", c.addExec("e", noStreams, []string{"/bin/payload", "exit", "0"}), errdefs.IsAlreadyExists, "AlreadyExists")
	c.remove()
}

func TestUnknown(t *testing.T) {
	h := newHost(t)
	c := h.run("c", "", nil, "forever")
	api, ctx := c.shim.Task, h.ctx
	calls := map[string]func(id, exec string) error{
		"state": func(id, exec string) error {
			_, err := api.State(ctx, &task.StateRequest{ID: id, ExecID: exec})
			return err
		},
		"start": func(id, exec string) error {
			_, err := api.Start(ctx, &task.StartRequest{ID: id, ExecID: exec})
			return err
		},
		"wait": func(id, exec string) error {
			_, err := api.Wait(ctx, &task.WaitRequest{ID: id, ExecID: exec})
			return err
		},
		"delete": func(id, exec string) error {
			_, err := api.Delete(ctx, &task.DeleteRequest{ID: id, ExecID: exec})
			return err
		},
		"kill": func(id, exec string) error {
			_, err := api.Kill(ctx, &task.KillRequest{ID: id, ExecID: exec, Signal: 15})
			return err
		},
		"resize": func(id, exec string) error {
			_, err := api.ResizePty(ctx, &task.ResizePtyRequest{ID: id, ExecID: exec, Width: 80, Height: 24})
			return err
		},
		"closeio": func(id, exec string) error {
			_, err := api.CloseIO(ctx, &task.CloseIORequest{ID: id, ExecID: exec, Stdin: true})
			return err
		},
	}
	for name, call := range calls {
		want(t, name+" of an unknown exec", native(call("c", "nobody")), errdefs.IsNotFound, "NotFound")
		want(t, name+" of an unknown task", native(call("nobody", "")), errdefs.IsNotFound, "NotFound")
	}
	c.remove()
}

// All calls about a task that was deleted say that there is none; another
// container keeps the shim alive.
func TestDeletedTask(t *testing.T) {
	h := newHost(t)
	keeper := h.run("keeper", "pod", nil, "forever")
	c := h.run("c", "pod", nil, "exit", "0")
	if _, err := c.wait(""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.delete(""); err != nil {
		t.Fatal(err)
	}
	_, err := c.shim.Task.Stats(h.ctx, &task.StatsRequest{ID: "c"})
	want(t, "stats", native(err), errdefs.IsNotFound, "NotFound")
	_, err = c.shim.Task.State(h.ctx, &task.StateRequest{ID: "c"})
	want(t, "state", native(err), errdefs.IsNotFound, "NotFound")
	_, err = c.delete("")
	want(t, "second delete", err, errdefs.IsNotFound, "NotFound")
	c.leave()
	keeper.remove()
}

// Specs that cannot be run are refused, and nothing remains of the attempt.
func TestBadBundle(t *testing.T) {
	cases := map[string]struct {
		spoil func(t *testing.T, c *container)
		class string
		is    func(error) bool
	}{
		"truncated": {func(t *testing.T, c *container) {
			path := filepath.Join(c.bundle.Dir, "config.json")
			data, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, data[:len(data)/2], 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "InvalidArgument", errdefs.IsInvalidArgument},
		"missing": {func(t *testing.T, c *container) {
			if err := os.Remove(filepath.Join(c.bundle.Dir, "config.json")); err != nil {
				t.Fatal(err)
			}
		}, "NotFound or InvalidArgument", func(err error) bool { return errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) }},
		"rootfs-symlink": {func(t *testing.T, c *container) {
			rootfs := filepath.Join(c.bundle.Dir, "rootfs")
			if err := os.Remove(rootfs); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(c.Dir, "share"), rootfs); err != nil {
				t.Fatal(err)
			}
		}, "InvalidArgument", errdefs.IsInvalidArgument},
	}
	for name, bad := range cases {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			c := h.prepare("c", "", nil, "forever")
			bad.spoil(t, c)
			err := c.create(noStreams)
			want(t, "create", err, bad.is, bad.class)
			if err == nil {
				c.remove()
				return
			}
			if mounts, err := daemon.Mounts(h.Dir + "/"); err != nil || len(mounts) > 0 {
				t.Errorf("mounts after the refusal: %v, error %v", mounts, err)
			}
			c.leave()
		})
	}
}

// Ids that would be paths.
func TestBadID(t *testing.T) {
	h := newHost(t)
	c := h.run("c", "", nil, "forever")
	for _, id := range []string{"../c", "a/b", "..", ".", "", "a\x00b", strings.Repeat("x", 300)} {
		req, err := h.CreateRequest(c.bundle, noStreams)
		if err != nil {
			t.Fatal(err)
		}
		req.ID = id
		_, err = c.shim.Task.Create(h.ctx, req)
		want(t, "create of "+id, native(err), errdefs.IsInvalidArgument, "InvalidArgument")
		if id != "" {
			err = c.addExec(id, noStreams, []string{"/bin/payload", "exit", "0"})
			want(t, "exec of "+id, err, errdefs.IsInvalidArgument, "InvalidArgument")
		}
	}
	c.remove()
}

// 10 MB of annotations either work or are refused at once; the shim answers
// before and after.
func TestManyAnnotations(t *testing.T) {
	h := newHost(t)
	bundle, err := h.Bundle("c", "", []string{"forever"}, func(spec *specs.Spec) {
		for _, key := range ids("berth.test/key", 10) {
			spec.Annotations[key] = strings.Repeat("x", 1<<20)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer bundle.Close()
	shim, err := h.Start(h.ctx, bundle)
	if err != nil {
		if !strings.Contains(err.Error(), "annotation") {
			t.Errorf("start was refused with %q, which does not name the annotations", err)
		}
		return
	}
	defer shim.Close()
	c := &container{host: h, bundle: bundle, shim: shim}
	if err := c.create(noStreams); err != nil {
		want(t, "create", err, errdefs.IsInvalidArgument, "InvalidArgument")
		c.leave()
		return
	}
	if err := c.start(); err != nil {
		t.Errorf("start: %v", err)
	}
	c.remove()
}
