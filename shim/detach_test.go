// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// Who kills `start` before it has answered has killed all of it: nobody is left
// that has the pipes, reads them, or begins a shim.
func TestKilledStartLeavesNobody(t *testing.T) {
	n := newNode(t)
	n.stays = true
	cmd := n.command("ns", "c1", n.bundle(""))
	cmd.Stdin = nil
	in, err := cmd.StdinPipe() // which does not end, so that `start` is under way
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(out); err != nil || len(data) > 0 { // ends with the last that has it
		t.Errorf("it wrote %q, %v", data, err)
	}
	_ = cmd.Wait() // killed
	if left, err := os.ReadDir(n.socketDir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// `start` ends as the process does that does its work.
func TestStartEndsAsItsChild(t *testing.T) {
	n := newNode(t)
	n.stays = true
	cmd := n.command("ns", "c1", n.bundle(""))
	cmd.Args = append(cmd.Args[:len(cmd.Args)-1:len(cmd.Args)-1], "-no-such-flag", "start")
	_, stderr, err := run(cmd)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitUsage {
		t.Errorf("it ended with %v, want exit code %d; %s", err, exitUsage, stderr)
	}
	if group, err := unix.Getpgid(cmd.Process.Pid); err == nil {
		t.Errorf("it is still there, in process group %d", group)
	}
}

// A shim is joined also where whoever runs `start` ignores SIGCHLD: that is
// inherited, and has the kernel forget how children end (sigaction(2)).
func TestStartWhereChildrenAreIgnored(t *testing.T) {
	n := newNode(t)
	n.stays = true
	first := n.start("ns", "sb", n.bundle(inGroup("sb")))
	cmd := n.command("ns", "c2", n.bundle(inGroup("sb")))
	cmd.Args = append([]string{"env", "--ignore-signal=CHLD", os.Args[0]}, cmd.Args[1:]...)
	cmd.Path = "/usr/bin/env"
	stdout, stderr, err := run(cmd)
	if err != nil || stderr != "" {
		t.Fatalf("%v; %s", err, stderr)
	}
	if r := parseReply(t, stdout); r.GetAddress() != first.GetAddress() {
		t.Errorf("it joined %v, want %v", r, first)
	}
}
