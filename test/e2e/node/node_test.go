// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
)

// TestTwoNodes runs a container on each of two nodes side by side.
func TestTwoNodes(t *testing.T) {
	ctx := t.Context()
	for _, name := range []string{"a", "b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t)
			out, err := n.Ctr(ctx, "run", "--rm", "--runtime", RuncRuntime, "--fifo-dir", n.FIFODir(), image.Demo, "c", "echo", "from", name)
			if err != nil {
				t.Fatalf("%v\n%s", err, n.LogTail())
			}
			if want := "from " + name + "\n"; out != want {
				t.Errorf("output %q, want %q", out, want)
			}
			if _, err := n.Crictl(ctx, "info"); err != nil {
				t.Error(err)
			}
			if err := n.Stop(ctx); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(n.Dir()); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("directory of a stopped node: %v", err)
			}
		})
	}
}

// TestResume kills containerd and starts it again: a container goes on.
func TestResume(t *testing.T) {
	ctx := t.Context()
	n := start(t)
	if _, err := n.Ctr(ctx, "run", "-d", "--runtime", RuncRuntime, "--fifo-dir", n.FIFODir(), image.Demo, "c", "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	before := n.Pid()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if n.Pid() == before {
		t.Errorf("containerd is still %d", before)
	}
	out, err := n.Ctr(ctx, "task", "ls", "-q")
	if err != nil || strings.TrimSpace(out) != "c" {
		t.Errorf("tasks after restart: %q, %v", out, err)
	}
	if _, err := n.Ctr(ctx, "task", "rm", "-f", "c"); err != nil {
		t.Error(err)
	}
	if _, err := n.Ctr(ctx, "container", "rm", "c"); err != nil {
		t.Error(err)
	}
	if err := n.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// TestStopReportsLeaks leaves one thing of each kind and wants each reported and removed.
func TestStopReportsLeaks(t *testing.T) {
	ctx := t.Context()
	n := start(t)
	if _, err := n.Ctr(ctx, "run", "-d", "--runtime", RuncRuntime, "--fifo-dir", n.FIFODir(), image.Demo, "c", "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	stray := n.Command(context.WithoutCancel(ctx), "sleep", "1000")
	if err := n.StartCommand(stray); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan error, 1)
	go func() { reaped <- stray.Wait() }()
	mount := filepath.Join(n.Dir(), "pods")
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	hierarchies, err := cgroupMounts()
	if err != nil || len(hierarchies) == 0 {
		t.Fatalf("cgroup hierarchies: %v, %v", hierarchies, err)
	}
	cgroup := filepath.Join(hierarchies[0], n.ID(), "stray")
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.Dir(), "s", "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err = n.Stop(ctx)
	<-reaped
	if err == nil {
		t.Fatal("no leak reported")
	}
	for _, want := range []string{"container " + n.ID() + "/c", "process ", "mount " + mount, "cgroup " + cgroup, "file s/stray"} {
		if !strings.Contains(err.Error(), "left behind: "+want) {
			t.Errorf("%q is not reported in:\n%v", want, err)
		}
	}
	for _, path := range []string{n.Dir(), cgroup, filepath.Dir(cgroup)} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// start starts a node that ends with the test at the latest.
func start(t *testing.T) *Node {
	t.Helper()
	n, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(n.Dir()); err == nil {
			if err := n.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return n
}
