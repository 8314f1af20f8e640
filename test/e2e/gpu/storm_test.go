// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"golang.org/x/sys/unix"

	"berth/test/fakedriver"
)

// TestStorm starts containers of several kinds at once, on a machine of which
// nothing is known yet: they share its list of files, and the trees of links.
func TestStorm(t *testing.T) {
	const containers, workers = 50, 10
	m := another(t, fakedriver.Config{GPUs: 4})
	m.use(t)
	capabilities := []string{"compute,utility", "utility,compute,video", "all", "utility"}
	var ids []string
	for i := range containers {
		ids = append(ids, fmt.Sprintf("crowd-%d", i))
	}
	crowd := make([]*container, containers)
	var failed sync.Map
	each(workers, ids, func(i int, id string) {
		c, err := tryStart(testContext(t), t, request{
			id: id, gpu: fmt.Sprintf("index:%d", i%4), annotations: map[string]string{"berth.dev/gpu-capabilities": capabilities[i%3]},
		})
		if err != nil {
			failed.Store(id, err)
			return
		}
		crowd[i] = c
	})
	failed.Range(func(id, err any) bool { t.Errorf("%s: %v", id, err); return true })
	for i, c := range crowd {
		if c == nil {
			continue
		}
		text, code := c.exec(testContext(t), t, "nvidia-smi")
		if found := (view{text, code}).devices(); !slices.Contains(found, gpuNode(m.GPUs[i%4])) {
			t.Errorf("%s has %q", c.ID(), found)
		}
		wantCUDA(t, c)
	}
	if trees := must(os.ReadDir(filepath.Join(m.run, "trees")))(t); len(trees) != 3 {
		t.Errorf("the trees are %v", trees)
	}
	each(workers, ids, func(i int, id string) {
		if err := removeContainer(testContext(t), id); err != nil {
			t.Error(err)
		}
	})
	wantNothingUnder(t, m)
}

// wantNothingUnder wants no claim and nothing half made in Berth's directory.
func wantNothingUnder(t *testing.T, m *machine) {
	t.Helper()
	for _, pattern := range []string{"claims/*", "claims/.*", "trees/.*", ".driver-*"} {
		if left := must(filepath.Glob(filepath.Join(m.run, pattern)))(t); left != nil {
			t.Errorf("left behind: %q", left)
		}
	}
}

// blocker is a program that tells when it was started in a certain way, and then
// does not end by itself.
type blocker struct{ path, fifo string }

// newBlocker blocks where one of its arguments is among these.
func newBlocker(t *testing.T, arguments ...string) blocker {
	t.Helper()
	dir := t.TempDir()
	b := blocker{filepath.Join(dir, "blocker"), filepath.Join(dir, "started")}
	if err := unix.Mkfifo(b.fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nfor a; do case $a in %s) echo $$ >%s; exec /bin/sleep 1000;; delete) exec /bin/sleep 1000;; esac; done\n",
		strings.Join(arguments, "|"), b.fifo)
	if err := os.WriteFile(b.path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

// started waits for it, and returns a pidfd.
func (b blocker) started(t *testing.T) int {
	t.Helper()
	var pid int
	if _, err := fmt.Sscan(string(must(os.ReadFile(b.fifo))(t)), &pid); err != nil {
		t.Fatal(err)
	}
	fd := must(unix.PidfdOpen(pid, 0))(t)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// ended waits for the end of a process.
func ended(t *testing.T, pidfd int) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(testTimeout.Milliseconds()))
		if n == 0 && err == nil {
			t.Error("what the shim ran is still there")
		}
		if err != unix.EINTR {
			return
		}
	}
}

// TestShimKilledInCreate kills a shim while the helper looks for a device, and
// while the runtime makes the container. That runtime cannot delete it either.
func TestShimKilledInCreate(t *testing.T) {
	b := newBlocker(t, "list", "create")
	for name, c := range map[string]struct {
		policy string
		want   request
	}{
		"helper":  {fmt.Sprintf("helper = %q", b.path), request{gpu: migUUID(fakedriver.Instance{GI: 1})}},
		"runtime": {"", request{gpu: "index:0", options: &runcoptions.Options{BinaryName: b.path}}},
	} {
		t.Run(name, func(t *testing.T) {
			home.use(t, c.policy)
			ctx := testContext(t)
			c.want.id = identifier(t)
			result := make(chan error, 1)
			go func() {
				_, err := tryStart(ctx, t, c.want)
				result <- err
			}()
			running := b.started(t)
			if err := unix.Kill(shimOf(t, c.want.id), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := <-result; err == nil {
				t.Error("it runs")
			}
			ended(t, running)
			if err := removeContainer(ctx, c.want.id); err != nil {
				t.Error(err)
			}
			if found := left(t, c.want.id); found != nil {
				t.Errorf("left behind: %q", found)
			}
		})
	}
}

// TestRunIsFull has ever a little more room where Berth keeps its own, until
// there is enough for a container: it runs, or is refused and leaves nothing.
func TestRunIsFull(t *testing.T) {
	m := another(t, fakedriver.Config{})
	m.use(t)
	dir := filepath.Dir(m.run)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for inodes, runs := 1, false; !runs; inodes++ {
		t.Run(fmt.Sprint(inodes), func(t *testing.T) {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=1m,nr_inodes=%d", inodes)); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			}()
			r := request{id: identifier(t), gpu: "1"}
			c, err := tryStart(testContext(t), t, r)
			if runs = err == nil; runs {
				wantCUDA(t, c)
			} else if !strings.Contains(err.Error(), "no space left") {
				t.Errorf("%v does not say why", err)
			}
			c.remove(t)
			if found := left(t, r.id); found != nil {
				t.Errorf("left behind: %q", found)
			}
			wantNothingUnder(t, m)
		})
	}
}
