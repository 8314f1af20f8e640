// SPDX-License-Identifier: Apache-2.0

package template

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/sandbox/vm"
)

// start has a keeper in dir, as a shim would, and its first template made.
func (r *rig) start(dir string, idle int) Request {
	r.Helper()
	self, err := os.Executable()
	r.must(err)
	q, err := For(r.ctx, r.Config, false)
	r.must(err)
	q.UIDBase, q.Idle, q.Cgroup = tester, idle, testCgroup
	r.Cleanup(func() { // a test that fails does not come to its end
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := End(ctx, dir); err != nil && !errors.Is(err, ErrNoKeeper) {
			r.Error(err)
		}
	})
	p, err := Start(r.Supervisor, []string{self, detacher, dir}, nil, q)
	r.must(err)
	<-p.Done()
	return q
}

// get waits for a template.
func (r *rig) get(dir string, q Request) *vm.Template {
	r.Helper()
	q.Wait = true
	t, err := Get(r.ctx, dir, q)
	r.must(err)
	r.Cleanup(t.Close)
	return t
}

// testCgroup is where the keepers of this program are, and of no other's tests.
var testCgroup = fmt.Sprintf("/berth-template-%d/templates", os.Getpid())

// keeperCgroups are the directories of testCgroup, or of what is above it.
func keeperCgroups() (dirs []string) {
	for _, hierarchy := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} { // v1, v2
		found, _ := filepath.Glob(hierarchy + filepath.Dir(testCgroup))
		dirs = append(dirs, found...)
	}
	return dirs
}

// noCgroup checks that the last keeper has removed its cgroups.
func noCgroup(t *testing.T) {
	t.Helper()
	if left := keeperCgroups(); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
}

func TestKeeper(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(t.TempDir(), "templates")
	if _, err := Get(r.ctx, dir, Request{Key: "any"}); !errors.Is(err, ErrNoKeeper) {
		t.Fatalf("without a keeper: %v", err)
	}
	q := r.start(dir, 600)
	// It answers while it makes the template, that is not there.
	if _, err := Get(r.ctx, dir, q); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("while it is made: %v", err)
	}
	tpl := r.get(dir, q)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may come to the keeper: %v, %v", info.Mode(), err)
	}
	if len(keeperCgroups()) == 0 {
		t.Errorf("it is not in %s", testCgroup)
	}

	t.Run("one at a time", func(t *testing.T) {
		r.start(dir, 600)
		all, _, err := List(r.ctx, dir, false)
		if err != nil || len(all) != 1 || all[0].Given != 1 {
			t.Errorf("there are the templates %+v, %v", all, err)
		}
	})
	t.Run("killed", func(t *testing.T) {
		_, pid, err := List(r.ctx, dir, false)
		r.must(err)
		kept, err := unix.PidfdOpen(pid, 0)
		r.must(err)
		defer func() { _ = unix.Close(kept) }()
		r.must(unix.PidfdSendSignal(kept, unix.SIGKILL, nil, 0))
		gone := []unix.PollFd{{Fd: int32(kept), Events: unix.POLLIN}}
		if n, err := unix.Poll(gone, int(limit.Milliseconds())); n != 1 {
			t.Fatalf("the keeper does not end: %v", err)
		}
		if _, err := Get(r.ctx, dir, q); !errors.Is(err, ErrNoKeeper) {
			t.Errorf("of one that was killed: %v", err)
		}
		// Who has a template keeps it.
		m, err := Clone(r.ctx, r.Config, tpl, "pod")
		r.must(err)
		r.must(m.Close(context.Background()))
		// And the next one takes over.
		r.start(dir, 600)
		r.get(dir, q)
	})
	t.Run("another version", func(t *testing.T) {
		other := q
		other.Key = strings.Repeat("0", 32)
		if _, err := Get(r.ctx, dir, other); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("asked for what it cannot make: %v", err)
		}
		r.ends(dir)
	})
	noCgroup(t)
}

// ends waits for the end of a keeper.
func (r *rig) ends(dir string) {
	r.Helper()
	if err := awaitEnd(r.ctx, dir); err != nil {
		r.Fatal(err)
	}
	if _, err := os.Stat(socketIn(dir)); err == nil {
		r.Error("its socket is left")
	}
}

func TestKeeperEndsWhenIdle(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(t.TempDir(), "templates")
	q := r.start(dir, 1)
	r.get(dir, q)
	begin := time.Now()
	r.ends(dir)
	t.Logf("it ends %v after the last request", time.Since(begin))
	noCgroup(t)
}

// A template of what has been replaced is dropped, and those of sizes that have
// not been asked for lately make room.
func TestKeeperDropsOldTemplates(t *testing.T) {
	k := &keeper{log: io.Discard, used: make(chan struct{}, 1), classes: make(map[string]*holding)}
	made := make(chan struct{})
	close(made)
	for i, c := range []struct {
		key       string
		memoryMiB int
		present   string
	}{
		{"a", 1, "a"}, {"b", 2, "ab"}, {"c", 3, "abc"}, {"d", 4, "abcd"},
		{"a", 1, "abcd"},
		{"e", 5, "acde"}, // b was asked for least lately
		{"f", 3, "adef"}, // c was of another image
	} {
		request := Request{Key: c.key, MemoryMiB: c.memoryMiB}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is really made
		k.find(ctx, request)
		k.work.Wait()
		var present []string
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			for _, h := range k.classes {
				if h.request.Key == key {
					present = append(present, key)
				}
			}
		}
		if got := strings.Join(present, ""); got != c.present {
			t.Errorf("after request %d there are %q, want %q", i, got, c.present)
		}
	}
}
