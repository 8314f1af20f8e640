// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// listing makes the hand-written cgroup list one real process.
func listing(t *testing.T, pid int) (c *Cgroup, scope string) {
	t.Helper()
	root := copied(t)
	scope = filepath.Join(root, scopeV2)
	for dir, text := range map[string]string{scope: fmt.Sprintln(pid), filepath.Join(scope, "nested"): ""} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return handWritten(t, root), scope
}

// Without cgroup.kill (Linux before 5.14) the processes are killed one by one,
// and the kill ends when cgroup.events says that nobody is left.
func TestKillWithoutCgroupKill(t *testing.T) {
	p := start(t, "idle")
	c, scope := listing(t, p.Process.Pid)
	done := make(chan error, 1)
	go func() { done <- c.Kill(bounded(t)) }()
	p.killed()
	for waiting := false; !waiting; {
		select {
		case err := <-done:
			t.Fatalf("Kill ended with %v while the cgroup was populated", err)
		default:
			waiting = slices.ContainsFunc(strayFDs(), func(fd string) bool { return strings.Contains(fd, "inotify") })
		}
	}
	overwrite(t, filepath.Join(scope, "cgroup.events"), "populated 0\nfrozen 0\n")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A kill whose time is over when the last process has died has done its work.
func TestKillInTheLastMoment(t *testing.T) {
	c, scope := listing(t, 0)
	overwrite(t, filepath.Join(scope, "cgroup.procs"), "\n\n")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.remain(ctx, []string{Unified}); !errors.Is(err, context.Canceled) {
		t.Errorf("a populated cgroup gave %v, want Canceled", err)
	}
	overwrite(t, filepath.Join(scope, "cgroup.events"), "populated 0\nfrozen 0\n")
	if err := c.remain(ctx, []string{Unified}); err != nil {
		t.Errorf("an empty cgroup gave %v", err)
	}
}

// A cgroup that holds the caller is refused even when no path told so: the
// caller may be moved after the check.
func TestKillRefusesItself(t *testing.T) {
	c, _ := listing(t, os.Getpid())
	if err := c.Kill(bounded(t)); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Kill gave %v, want FailedPrecondition", err)
	}
}

// A pidfd that turns out to be of a process outside is not signalled.
func TestSignalSparesOutsiders(t *testing.T) {
	inside, outside := start(t, "idle"), start(t, "idle")
	c, _ := listing(t, inside.Process.Pid)
	held, short, err := openPidfds([]int{inside.Process.Pid, outside.Process.Pid, 0})
	defer closePidfds(held)
	if err != nil || short || len(held) != 2 {
		t.Fatalf("openPidfds gave %v, %v, %v", held, short, err)
	}
	if err := c.signal([]string{Unified}, held); err != nil {
		t.Fatal(err)
	}
	inside.killed()
	if exited(held[1].fd) || held[1].member {
		t.Error("a process outside the cgroup was killed")
	}
	if err := unix.PidfdSendSignal(held[1].fd, 0, nil, 0); err != nil {
		t.Error(err)
	}
}
