// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"

	"berth/test/e2e/node"
)

// TestFullState fills the file system of containerd's state, of the shims' sockets
// and of the runtime's state, under running containers. What needs room is refused
// with the reason and leaves nothing. No exit is lost, neither one that happens now,
// nor that of a shim that dies now, nor one while containerd is away.
func TestFullState(t *testing.T) {
	if *group == "node" {
		t.Skip("it kills the shim of one container, which would be that of all")
	}
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		r.known(t, "a refused exec says no reason; an exit while containerd is away is lost")
		if r.guest {
			t.Skip("it signals containers' processes on the host, and a guest has its own disk to fill")
		}
		n := ownNode(t, node.Config{StateSize: 8 << 20})
		ctx := testContext(t, n)
		options := &runcoptions.Options{Root: filepath.Join(n.StateDir(), "runc")}
		command := &runcoptions.Options{Root: options.Root, BinaryName: "runc"}
		ends := create(ctx, t, n, r, request{id: "ends", args: []string{"sh", "-c", untilTerm}, options: command})
		exit := start(ctx, t, ends.task)
		away := create(ctx, t, n, r, request{id: "away", args: []string{"sh", "-c", untilTerm}, options: options})
		start(ctx, t, away.task)
		orphan := create(ctx, t, n, r, request{id: "orphan", args: idle, options: options})
		start(ctx, t, orphan.task)
		init := openPidfd(t, int(orphan.task.Pid()))
		watching, unwatch := context.WithCancel(ctx)
		defer unwatch()
		events := record(watching, t, n, "orphan")

		ballast := fill(t, n.StateDir())
		p := must(ends.task.Exec(ctx, "refused", &specs.Process{Args: idle, Cwd: "/"}, streamsTo(n, nil, newOutput(), newOutput(), false)))(t)
		wantNoRoom(t, "exec", p.Start(ctx))
		if _, err := p.Delete(ctx); err != nil {
			t.Errorf("delete the exec that was refused: %v", err)
		}
		if !r.control && *driver == "native" { // the library in the shim writes nothing for an exec
			p, exit := orphan.exec(ctx, t, "taken", streamsTo(n, nil, newOutput(), newOutput(), false), "true")
			if code := status(ctx, t, exit); code != 0 {
				t.Errorf("an exec by the shim itself on a full file system: status %d", code)
			}
			if _, err := p.Delete(ctx); err != nil {
				t.Errorf("delete that exec: %v", err)
			}
		}
		_, err := tryCreate(ctx, t, n, r, request{id: "refused", args: idle, options: options})
		wantNoRoom(t, "create", err)

		awaitSignalled(t, int(ends.task.Pid()), unix.SIGTERM)
		ends.delete(ctx, t, status(ctx, t, exit))
		if err := unix.Kill(shimOf(t, int(orphan.task.Pid())), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		awaitPidfd(t, init)
		if got := events.await(ctx, "exit 137"); got[len(got)-1] != "exit 137" {
			t.Errorf("events %q, want exit 137 as the last", got)
		}

		unwatch()
		refill(t, ballast)
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitSignalled(t, int(away.task.Pid()), unix.SIGTERM)
		if err := n.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		if state := attach(t, n, away); state != containerd.Stopped {
			t.Errorf("the container that ended meanwhile is %s", state)
		}
		away.delete(ctx, t, 5)
		closeIO(orphan.task.IO())

		if left, _ := filepath.Glob(filepath.Join(options.Root, "*", "*")); len(left) > 0 {
			t.Errorf("the runtime keeps %v", left)
		}
		if err := ballast.Truncate(0); err != nil {
			t.Fatal(err)
		}
		again := create(ctx, t, n, r, request{id: "again", args: []string{"echo", "again"}, options: options})
		if code := again.run(ctx, t); code != 0 || again.stdout.String() != "again\n" {
			t.Errorf("with room again: status %d, output %q", code, again.stdout)
		}
	})
}

// fill leaves no room in a directory's file system.
func fill(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	refill(t, f)
	return f
}

// refill takes what room there is again.
func refill(t *testing.T, ballast *os.File) {
	t.Helper()
	for _, size := range []int{1 << 20, 1} {
		for {
			if _, err := ballast.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func wantNoRoom(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("%s on a full file system: %v", what, err)
	}
}
