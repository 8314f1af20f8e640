// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/test/e2e/node"
)

// untilTerm runs until it gets SIGTERM. It looks for the signal between two short
// sleeps: a shell can miss one that comes just before it waits.
const untilTerm = "trap 'exit 5' TERM; while :; do sleep 0.1; done"

// TestRestart kills containerd: a container goes on, and serves the new one.
func TestRestart(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{})
		ctx := testContext(t, n)
		c := create(ctx, t, n, r, request{id: "stays", args: idle})
		start(ctx, t, c.task)
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if state := attach(t, n, c); state != containerd.Running {
			t.Errorf("the container is %s", state)
		}
		if out, code := c.exec1(ctx, t, "after", nil, "echo", "after"); out != "after\n" || code != 0 {
			t.Errorf("exec after the restart: output %q, status %d", out, code)
		}
		exit := must(c.task.Wait(ctx))(t)
		kill(ctx, t, c.task, syscall.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestExitWhileAway ends a container while containerd is away and wants its exit
// forwarded to the new one. containerd itself then removes the task: it takes a shim
// without processes for a leaked one.
func TestExitWhileAway(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		n := ownNode(t, node.Config{LogLevel: "trace"})
		ctx := testContext(t, n)
		c := create(ctx, t, n, r, request{id: "ends", args: []string{"sh", "-c", untilTerm}})
		start(ctx, t, c.task)
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitSignalled(t, int(c.task.Pid()), unix.SIGTERM)
		if err := n.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, eventTimeout)
		defer cancel()
		if err := n.AwaitLog(short, "event forwarded", "ns="+n.ID(), "topic=/tasks/exit"); err != nil {
			r.known(t, "an event is dropped after a few tries")
			t.Error(err)
		}
	})
}

// TestPodExitWhileAway does the same in a pod, and wants CRI to learn the status.
func TestPodExitWhileAway(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		if r.guest {
			t.Skip("it signals a container's process on the host, where a guest's is not")
		}
		n := ownNode(t, node.Config{})
		ctx := testContext(t, n)
		pod := runPod(ctx, t, n, "away", r)
		ends := must(pod.Run(ctx, "ends", "sh", "-c", untilTerm))(t)
		stays := must(pod.Run(ctx, "stays", idle...))(t)
		pid := inspect(ctx, t, n, ends).Info.Pid
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitSignalled(t, pid, unix.SIGTERM)
		if err := n.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if got := inspect(ctx, t, n, stays).Status.State; got != "CONTAINER_RUNNING" {
			t.Errorf("the container that goes on is %s", got)
		}
		if out, err := n.Crictl(ctx, "exec", stays, "echo", "after"); out != "after\n" || err != nil {
			t.Errorf("exec after the restart: %q, %v", out, err)
		}
		if got := inspect(ctx, t, n, ends).Status; got.State != "CONTAINER_EXITED" || got.ExitCode != 5 {
			r.known(t, "containerd takes the shim for leaked and reports 255")
			t.Errorf("the container that ended meanwhile: %+v, want CONTAINER_EXITED and 5", got)
		}
	})
}

// attach finds a container and its task again, after a restart, and says its state.
func attach(t *testing.T, n *node.Node, c *container) containerd.ProcessStatus {
	t.Helper()
	ctx := testContext(t, n)
	closeIO(c.task.IO())
	found := must(n.Client().LoadContainer(ctx, c.ID()))(t)
	c.Container = found
	c.task = must(found.Task(ctx, nil))(t)
	return must(c.task.Status(ctx))(t).Status
}

// awaitSignalled signals a process that handles it, and waits until it has ended.
func awaitSignalled(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("open pidfd: %v", err)
	}
	defer func() { _ = unix.Close(fd) }()
	awaitHandler(t, pid, signal)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		t.Fatalf("signal %d: %v", pid, err)
	}
	awaitPidfd(t, fd)
}

// awaitHandler waits until a process handles a signal: PID 1 of a namespace takes one
// only then. Nothing notifies of that, so it asks again and again.
func awaitHandler(t *testing.T, pid int, signal syscall.Signal) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !catches(t, pid, signal); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not handle signal %v", pid, signal)
		}
		<-time.After(time.Millisecond)
	}
}

func awaitPidfd(t *testing.T, fd int) {
	t.Helper()
	for {
		count, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(testTimeout/time.Millisecond))
		if err == unix.EINTR {
			continue
		}
		if err != nil || count == 0 {
			t.Fatalf("process did not end: %v", err)
		}
		return
	}
}

// catches says whether a process has a handler for a signal; see SigCgt in proc(5).
func catches(t *testing.T, pid int, signal syscall.Signal) bool {
	t.Helper()
	for line := range strings.Lines(readTrimmed(t, filepath.Join("/proc", strconv.Itoa(pid), "status"))) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return bits&(1<<(uint(signal)-1)) != 0
		}
	}
	return false
}

// TestShimKilled kills a shim: its containers die, containerd learns the exits, and
// nothing is left running or mounted.
func TestShimKilled(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		id := identifier(t)
		events := record(ctx, t, shared, id)
		c := create(ctx, t, shared, r, request{args: idle})
		exit := start(ctx, t, c.task)
		p, execExit := c.exec(ctx, t, "below", streamsTo(shared, nil, newOutput(), newOutput(), false), idle...)
		init, below := openPidfd(t, int(c.task.Pid())), openPidfd(t, int(p.Pid()))

		if err := unix.Kill(shimOf(t, int(c.task.Pid())), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if r.control {
			// Its delete command does not know the socket of a shim that is gone.
			t.Cleanup(func() { removeSockets(t) })
		}
		awaitPidfd(t, init)
		awaitPidfd(t, below)
		// A wait that the shim was serving ends with an error or a status; it must end.
		for _, ch := range []<-chan containerd.ExitStatus{exit, execExit} {
			select {
			case <-ch:
			case <-ctx.Done():
				t.Error("a wait outlives the shim")
			}
		}
		if got := events.await(ctx, "exit 137"); got[len(got)-1] != "exit 137" {
			t.Errorf("events %q, want exit 137 as the last", got)
		}
		if _, err := c.Task(ctx, nil); !errdefs.IsNotFound(err) {
			if _, err := c.task.Delete(ctx); err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("delete the task of a dead shim: %v", err)
			}
		}
		closeIO(p.IO())
		if rootfs := filepath.Join(shared.Dir(), "state", "io.containerd.runtime.v2.task", shared.ID(), id); exists(rootfs) {
			t.Errorf("bundle %s is left", rootfs)
		}
	})
}

// removeSockets removes the sockets that nobody listens on.
func removeSockets(t *testing.T) {
	t.Helper()
	sockets, err := filepath.Glob(filepath.Join(shared.Dir(), "s", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		connection, err := net.Dial("unix", s)
		if err == nil {
			_ = connection.Close()
		} else if err := os.Remove(s); err != nil {
			t.Error(err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func openPidfd(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("open pidfd of %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// shimOf is the parent of a container's init.
func shimOf(t *testing.T, pid int) int {
	t.Helper()
	for line := range strings.Lines(readTrimmed(t, filepath.Join("/proc", strconv.Itoa(pid), "status"))) {
		if parent, ok := strings.CutPrefix(line, "PPid:"); ok {
			id, err := strconv.Atoi(strings.TrimSpace(parent))
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
	}
	t.Fatalf("%d has no parent", pid)
	return 0
}
