// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
)

const podRuntime = "io.containerd.pod.v2"

// idle runs until it is killed.
var idle = []string{"sleep", "2147483647"}

// runArgs are ctr's arguments that run a container in the demo image. The group "" is
// a shim of its own.
func (h *host) runArgs(id, group string, flags, command []string) []string {
	args := []string{"run", "--snapshotter", h.snapshotter, "--fifo-dir", filepath.Join(h.dir, "fifo")}
	if group != "" {
		args = append(args, "--annotation", "io.containerd.runc.v2.group="+group)
	}
	runtime := []string{"--runtime", podRuntime}
	for _, f := range flags {
		if f == "--runtime" {
			runtime = nil
		}
	}
	args = append(append(args, runtime...), flags...)
	return append(append(args, image.Demo, id), command...)
}

// runIdle starts a container that goes on without ctr, and says its init's pid.
func (h *host) runIdle(t *testing.T, id, group string, flags ...string) int {
	t.Helper()
	h.ctr(t, h.runArgs(id, group, append([]string{"-d", "--null-io"}, flags...), idle)...)
	h.noteSockets(t)
	return h.taskPid(t, id)
}

// task finds a task in ctr's list: its pid as text and its status, or nothing.
func (h *host) task(t *testing.T, id string) (pid, status string) {
	t.Helper()
	for line := range strings.Lines(h.ctr(t, "tasks", "ls")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == id {
			return fields[1], fields[2]
		}
	}
	return "", ""
}

func (h *host) taskPid(t *testing.T, id string) int {
	t.Helper()
	text, status := h.task(t, id)
	pid, err := strconv.Atoi(text)
	if err != nil || status != "RUNNING" {
		t.Fatalf("task %s has pid %q and is %q, want RUNNING\n%s", id, text, status, h.logTail())
	}
	return pid
}

// awaitStatus waits until ctr says that a task has a status; "" is no task.
func (h *host) awaitStatus(t *testing.T, id, want string) {
	t.Helper()
	h.await(t, "task "+id+" to be "+strconv.Quote(want), func() bool {
		_, got := h.task(t, id)
		return got == want
	})
}

// remove kills a container and deletes it and its task.
func (h *host) remove(t *testing.T, id string) {
	t.Helper()
	h.ctr(t, "tasks", "kill", "-s", "SIGKILL", id)
	h.awaitStatus(t, id, "STOPPED")
	h.ctr(t, "tasks", "delete", id)
	h.ctr(t, "containers", "rm", id)
}

// exec runs a command in a container and wants its output and status.
func (h *host) exec(t *testing.T, id string) {
	t.Helper()
	out, code, stderr := h.try(t, "ctr", "tasks", "exec", "--fifo-dir", filepath.Join(h.dir, "fifo"),
		"--exec-id", "exec", id, "sh", "-c", "echo out; echo err >&2; exit 7")
	if out != "out\n" || code != 7 || !strings.Contains(stderr, "err\n") {
		t.Errorf("exec in %s: output %q, status %d, want \"out\" and 7; stderr %q\n%s", id, out, code, stderr, h.logTail())
	}
}

// session is a ctr that stays attached to what it runs.
type session struct {
	h      *host
	cmd    *exec.Cmd
	lines  *bufio.Reader
	stderr strings.Builder
	cancel context.CancelFunc
}

// attach starts ctr, and waits for the line "up" of the container.
func (h *host) attach(t *testing.T, args ...string) *session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s := &session{h: h, cmd: h.command(ctx, "ctr", args...), cancel: cancel}
	t.Cleanup(cancel)
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewReader(stdout)
	if line, err := s.lines.ReadString('\n'); line != "up\n" {
		_ = s.cmd.Wait()
		t.Fatalf("ctr %s: %q, %v, want \"up\"; stderr: %s\n%s", strings.Join(args, " "), line, err, s.stderr.String(), h.logTail())
	}
	h.noteSockets(t)
	return s
}

// end waits for ctr and says its status.
func (s *session) end(t *testing.T) int {
	t.Helper()
	_, _ = io.Copy(io.Discard, s.lines)
	err := s.cmd.Wait()
	s.cancel()
	if e := new(exec.ExitError); err != nil && !errors.As(err, &e) {
		t.Error(err)
	}
	return s.cmd.ProcessState.ExitCode()
}

// bundle is the directory of a container of the host's own namespace.
func (h *host) bundle(id string) string {
	return filepath.Join(h.dir, "state", "io.containerd.runtime.v2.task", h.id, id)
}

// shimOf is the parent of a container's init, and has to be the shim under test.
func (h *host) shimOf(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil {
				t.Fatal(err)
			}
			if exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(parent), "exe")); exe != h.shim {
				t.Errorf("the parent of %d runs %q, want %q (%v)", pid, exe, h.shim, err)
			}
			return parent
		}
	}
	t.Fatalf("process %d has no parent", pid)
	return 0
}

// awaitDeath waits until a process has ended.
func (h *host) awaitDeath(t *testing.T, pid int) {
	t.Helper()
	h.await(t, "the end of process "+strconv.Itoa(pid), func() bool {
		return errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	})
}
