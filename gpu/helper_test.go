// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/process"
)

// script is a program in place of berth-gpu.
func script(t *testing.T, text string) Helper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	sup := process.NewSupervisor()
	t.Cleanup(sup.Close)
	return Helper{Path: path, DriverRoot: "/", Supervisor: sup}
}

// TestHelperThatDoesNotEnd has a helper that stays, with its output open, when
// it is killed: a driver that hangs holds it in the kernel. Nothing but another
// process that has its output does so here. Who asks is not held up.
func TestHelperThatDoesNotEnd(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	h := script(t, "/bin/sleep 1000 &\necho $! >"+started+"\nwait\n")
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := h.List(ctx)
		result <- err
	}()
	text, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGKILL) }()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "gave no answer") {
		t.Errorf("error %v", err)
	}
}

// TestHelperDiesWithItsParent has the process that asks be killed: nobody would
// read the answer, and what was made is taken back by the ledger.
func TestHelperDiesWithItsParent(t *testing.T) {
	const variable = "BERTH_TEST_HELPER_STARTED"
	if started := os.Getenv(variable); started != "" { // as the parent
		_, err := script(t, "echo $$ >"+started+"\nexec /bin/sleep 1000\n").List(t.Context())
		t.Fatal("the helper has ended: ", err)
	}
	started := filepath.Join(t.TempDir(), "started")
	if err := unix.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	parent.Env = append(os.Environ(), variable+"="+started, "TMPDIR="+t.TempDir())
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(started)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	n, err := 0, error(unix.EINTR)
	for errors.Is(err, unix.EINTR) { // by SIGCHLD
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	}
	if n != 1 || err != nil {
		t.Errorf("it lives on: %v", err)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	_ = parent.Wait()                   // it was killed
	_, _ = unix.Wait4(pid, nil, 0, nil) // ours if we are a subreaper, for another test's supervisor
}

// TestHelperEnvironment has nothing of ours reach the helper: what it loads is
// decided by its arguments alone.
func TestHelperEnvironment(t *testing.T) {
	t.Setenv("LD_PRELOAD_OF_A_TEST", "/evil.so")
	h := script(t, "/usr/bin/env >&2\nexit 3\n")
	if _, err := h.List(t.Context()); err == nil || !strings.Contains(err.Error(), "PWD=") || strings.Contains(err.Error(), "evil") {
		t.Errorf("error %v", err)
	}
}
