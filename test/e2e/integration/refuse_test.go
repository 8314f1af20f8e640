// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestRefusals asks for what cannot be, and wants the class of error that
// containerd's callers look for.
func TestRefusals(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		process := &specs.Process{Args: idle, Cwd: "/", Env: []string{"PATH=/bin"}}
		quiet := streamsTo(shared, nil, newOutput(), newOutput(), false)

		wantClass(t, "pause before start", c.task.Pause(ctx), anyError)
		exit := start(ctx, t, c.task)
		wantClass(t, "second start", c.task.Start(ctx), anyError)
		if _, err := c.task.Delete(ctx); err == nil {
			t.Error("a running task was deleted")
		}
		p := must(c.task.Exec(ctx, "twice", process, quiet))(t)
		_, err := c.task.Exec(ctx, "twice", process, quiet)
		wantClass(t, "second exec of one id", err, errdefs.IsAlreadyExists)
		if _, err := p.Delete(ctx); err != nil {
			t.Errorf("delete an exec that was not started: %v", err)
		}
		_, err = c.task.LoadProcess(ctx, "none", nil)
		wantClass(t, "unknown exec", err, errdefs.IsNotFound)
		wantClass(t, "close of an unknown exec's stdin", p.CloseIO(ctx, containerd.WithStdinCloser), errdefs.IsNotFound)

		missing := must(c.task.Exec(ctx, "missing", &specs.Process{Args: []string{"no-such-program"}, Cwd: "/", Env: []string{"PATH=/bin"}}, quiet))(t)
		err = missing.Start(ctx)
		wantText(t, "exec of a missing program", err, "no-such-program")
		if _, err := missing.Delete(ctx); err != nil {
			t.Errorf("delete the exec of a missing program: %v", err)
		}

		kill(ctx, t, c.task, syscall.SIGKILL)
		code := status(ctx, t, exit)
		wantClass(t, "kill after exit", c.task.Kill(ctx, syscall.SIGKILL), errdefs.IsNotFound)
		wantClass(t, "start after exit", c.task.Start(ctx), anyError)
		c.delete(ctx, t, code)
		wantClass(t, "kill after delete", c.task.Kill(ctx, syscall.SIGKILL), errdefs.IsNotFound)
		_, err = c.task.Metrics(ctx)
		wantClass(t, "stats after delete", err, errdefs.IsNotFound)
	})
}

// anyError is the class of all errors.
func anyError(error) bool { return true }

func wantText(t *testing.T, what string, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; want an error that names %q", what, err, text)
	}
}

// TestMissingProgram wants a sentence for a container that cannot run, and nothing
// left of it; the leak check at the end of all tests looks for that.
func TestMissingProgram(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		_, err := tryCreate(ctx, t, shared, r, request{args: []string{"no-such-program"}})
		wantText(t, "run of a missing program", err, "no-such-program")
	})
}

// TestBadSpec asks for what the runtime refuses at create.
func TestBadSpec(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		_, err := tryCreate(ctx, t, shared, r, request{
			args: idle,
			spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{{Type: "bind", Source: "/no/such/source", Destination: "/mnt", Options: []string{"bind"}}})},
		})
		wantText(t, "mount of a missing source", err, "/no/such/source")
	})
}

// TestMissingRuntime names an OCI runtime that is not there.
func TestMissingRuntime(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		_, err := tryCreate(ctx, t, shared, r, request{args: idle, options: &runcoptions.Options{BinaryName: "no-such-runtime"}})
		wantText(t, "create with a missing runtime", err, "no-such-runtime")
	})
}

// TestCrun runs a container by another OCI runtime.
func TestCrun(t *testing.T) {
	if _, err := exec.LookPath("crun"); err != nil {
		t.Skip("needs crun on PATH")
	}
	if exists("/sys/fs/cgroup/unified") {
		t.Skip("needs a host without hybrid cgroups: crun refuses those")
	}
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle, spec: []oci.SpecOpts{oldVersion}, options: &runcoptions.Options{BinaryName: "crun"}})
		exit := start(ctx, t, c.task)
		if out, code := c.exec1(ctx, t, "probe", nil, "sh", "-c", "echo by crun; exit 2"); out != "by crun\n" || code != 2 {
			t.Errorf("exec: output %q, status %d", out, code)
		}
		if err := c.task.Pause(ctx); err != nil {
			t.Errorf("pause: %v", err)
		}
		if err := c.task.Resume(ctx); err != nil {
			t.Errorf("resume: %v", err)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// oldVersion names a version of the specification that every crun takes; Debian 12's
// refuses those that came after it.
func oldVersion(_ context.Context, _ oci.Client, _ *containers.Container, s *specs.Spec) error {
	s.Version = "1.0.2"
	return nil
}

// TestCheckpoint writes a checkpoint, or gets an error that says what is missing.
// Either way the container goes on.
func TestCheckpoint(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		_, err := c.task.Checkpoint(ctx, containerd.WithCheckpointName(identifier(t)))
		switch {
		case r.guest:
			if !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "cannot checkpoint") {
				t.Errorf("checkpoint of a container in a guest: %v", err)
			}
		case err != nil:
			t.Logf("checkpoint: %v", err)
			if !strings.Contains(err.Error(), "criu") && !strings.Contains(err.Error(), "CRIU") {
				t.Errorf("the error does not name criu: %v", err)
			}
		}
		if got := must(c.task.Status(ctx))(t); got.Status != containerd.Running {
			t.Errorf("after the checkpoint the container is %s", got.Status)
		}
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}
