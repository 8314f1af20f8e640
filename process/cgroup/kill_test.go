// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// lanes are the hierarchies that a kill can go through on a hybrid host.
var lanes = []struct {
	name string
	keep func(string) bool
}{{"hybrid", all}, {"v1", onlyV1}, {"unified", unified}}

// mustOpen opens pid's cgroup with the hierarchies that the group has: the
// others are the test's own, so they come out as shared.
func mustOpen(t testing.TB, pid int) *Cgroup {
	t.Helper()
	c, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func needs(t testing.TB, g *group) {
	t.Helper()
	if len(g.dirs) == 0 {
		t.Skip("needs a hierarchy of this kind")
	}
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestKillTree(t *testing.T) {
	for _, lane := range lanes {
		t.Run(lane.name, func(t *testing.T) {
			g := newGroup(t, lane.keep)
			needs(t, g)
			for _, dir := range g.dirs {
				if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			top, below := start(t, "idle"), start(t, "idle")
			g.add(top.Process.Pid, "")
			if _, ok := g.dirs["cpuset"]; ok {
				for _, sub := range []string{"a", "a/b"} {
					deeper := &group{t: t, dirs: map[string]string{"cpuset": filepath.Join(g.dirs["cpuset"], sub)}}
					deeper.inheritCPUs()
				}
			}
			g.add(below.Process.Pid, "a/b")
			c := mustOpen(t, top.Process.Pid)

			want := []int{top.Process.Pid, below.Process.Pid}
			slices.Sort(want)
			if got, err := c.Pids(); err != nil || !slices.Equal(got, want) {
				t.Fatalf("Pids() = %v, %v, want %v", got, err, want)
			}
			if err := c.Kill(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if empty, err := c.Empty(); err != nil || !empty {
				t.Errorf("Empty() = %v, %v after Kill", empty, err)
			}
			top.killed()
			below.killed()
			if err := c.Kill(bounded(t)); err != nil {
				t.Errorf("second Kill: %v", err)
			}
			if err := c.Remove(bounded(t)); err != nil {
				t.Error(err)
			}
			for _, dir := range g.dirs {
				if _, err := os.Stat(dir); !os.IsNotExist(err) {
					t.Errorf("%s is still there: %v", dir, err)
				}
			}
			if err := c.Kill(bounded(t)); err != nil {
				t.Errorf("Kill of a removed cgroup: %v", err)
			}
			if pids, err := c.Pids(); err != nil || len(pids) != 0 {
				t.Errorf("Pids of a removed cgroup: %v, %v", pids, err)
			}
		})
	}
}

func TestKillFrozen(t *testing.T) {
	for _, lane := range lanes {
		t.Run(lane.name, func(t *testing.T) {
			g := newGroup(t, lane.keep)
			needs(t, g)
			p := start(t, "idle")
			g.add(p.Process.Pid, "")
			c := mustOpen(t, p.Process.Pid)
			if frozen, err := c.Frozen(); err != nil || frozen {
				t.Fatalf("Frozen() = %v, %v before", frozen, err)
			}
			freezeAll := func() {
				if _, ok := g.dirs["freezer"]; ok {
					g.write("freezer", "freezer.state", "FROZEN")
				} else {
					g.write(Unified, "cgroup.freeze", "1")
				}
			}
			freezeAll()
			if frozen, err := c.Frozen(); err != nil || !frozen {
				t.Fatalf("Frozen() = %v, %v, want true", frozen, err)
			}
			if err := c.Thaw(); err != nil {
				t.Fatal(err)
			}
			if frozen, err := c.Frozen(); err != nil || frozen {
				t.Fatalf("Frozen() = %v, %v after Thaw", frozen, err)
			}
			freezeAll()
			if err := c.Kill(bounded(t)); err != nil {
				t.Fatal(err)
			}
			p.killed()
			if frozen, err := c.Frozen(); err != nil || frozen {
				t.Errorf("Frozen() = %v, %v after Kill", frozen, err)
			}
		})
	}
}

func TestKillForkBomb(t *testing.T) {
	for _, lane := range lanes {
		t.Run(lane.name, func(t *testing.T) {
			g := newGroup(t, func(controller string) bool { return controller == "pids" || lane.keep(controller) })
			needs(t, g)
			pids := "pids"
			if _, ok := g.dirs[pids]; !ok {
				pids = Unified
			}
			if _, err := os.Stat(filepath.Join(g.dirs[pids], "pids.max")); err != nil {
				t.Skip("needs the pids controller to bound the bomb")
			}
			g.write(pids, "pids.max", "150")
			p := start(t, "bomb")
			g.add(p.Process.Pid, "")
			c := mustOpen(t, p.Process.Pid)
			p.act()
			for deadline := time.Now().Add(20 * time.Second); ; {
				pids, err := c.Pids()
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("bomb has %d processes, %v", len(pids), err)
				}
				if len(pids) > 10 {
					break
				}
			}
			if err := c.Kill(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if pids, err := c.Pids(); err != nil || len(pids) != 0 {
				t.Errorf("Pids() = %v, %v after Kill", pids, err)
			}
			p.killed()
			if err := c.Remove(bounded(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A cgroup that the caller is in, or below, must never be killed.
func TestKillRefusesShared(t *testing.T) {
	p := start(t, "idle") // in the test's own cgroups
	c := mustOpen(t, p.Process.Pid)
	for name, call := range map[string]func() error{
		"Kill":     func() error { return c.Kill(bounded(t)) },
		"Thaw":     c.Thaw,
		"Pids":     func() error { _, err := c.Pids(); return err },
		"Kill 1":   func() error { return mustOpen(t, 1).Kill(bounded(t)) },
		"Kill own": func() error { return mustOpen(t, os.Getpid()).Kill(bounded(t)) },
	} {
		if err := call(); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s gave %v, want FailedPrecondition", name, err)
		}
	}
	if err := p.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("the process is dead: %v", err)
	}
	// A record does not make it ours either, whatever it says.
	loc := c.Location()
	for controller, dir := range loc.Dirs {
		dir.Shared = false
		loc.Dirs[controller] = dir
	}
	loaded, err := Load(loc)
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Close()
	if err := loaded.Kill(bounded(t)); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Kill of a forged record gave %v, want FailedPrecondition", err)
	}
	if err := loaded.Remove(bounded(t)); err != nil {
		t.Errorf("Remove must pass shared directories over: %v", err)
	}
}

// A process that cannot be killed in time is named. A v1 cgroup below a frozen
// one keeps its processes alive, like uninterruptible sleep does.
func TestKillNamesWhatIsLeft(t *testing.T) {
	g := newGroup(t, func(controller string) bool { return controller == "freezer" })
	needs(t, g)
	if err := os.Mkdir(filepath.Join(g.dirs["freezer"], "child"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, "idle")
	g.add(p.Process.Pid, "child")
	c := mustOpen(t, p.Process.Pid)
	g.write("freezer", "freezer.state", "FROZEN")
	for deadline := time.Now().Add(20 * time.Second); ; {
		text, err := os.ReadFile(filepath.Join(g.dirs["freezer"], "freezer.state"))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("freezer.state is %q, %v", text, err)
		}
		if string(text) == "FROZEN\n" {
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := c.Kill(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Kill gave %v, want DeadlineExceeded", err)
	}
	if text := err.Error(); !strings.Contains(text, "state D") || !strings.Contains(text, "1 processes are left: pid ") {
		t.Errorf("error names nothing: %v", err)
	}
	if err := c.Remove(ctx); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Remove of a busy cgroup gave %v, want FailedPrecondition", err)
	}
	g.write("freezer", "freezer.state", "THAWED")
	if err := c.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	p.killed()
}

// A cgroup made again under the same name is another one.
func TestLoad(t *testing.T) {
	g := newGroup(t, all)
	needs(t, g)
	p := start(t, "idle")
	g.add(p.Process.Pid, "")
	loc := mustOpen(t, p.Process.Pid).Location()
	for controller, dir := range g.dirs {
		if got := loc.Dirs[controller]; got.Path != dir || got.Shared || got.Inode == 0 {
			t.Errorf("Location has %q at %+v, want %q", controller, got, dir)
		}
	}
	later, err := Load(loc)
	if err != nil {
		t.Fatal(err)
	}
	if err := later.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	p.killed()
	if err := later.Remove(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range g.dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := later.Remove(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range g.dirs {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("Remove took a successor away: %v", err)
		}
	}
	later.Close()
	if _, err := Load(loc); !errdefs.IsNotFound(err) {
		t.Errorf("Load of successors gave %v, want NotFound", err)
	}
	if err := later.Kill(bounded(t)); !errdefs.IsNotFound(err) {
		t.Errorf("Kill after Close gave %v, want NotFound", err)
	}
	for name, dir := range map[string]string{"not a cgroup": t.TempDir(), "relative": "x", "unclean": "/sys/fs/cgroup/../cgroup"} {
		bad := Location{Version: V1, Dirs: map[string]Dir{"memory": {Path: dir}}}
		if _, err := Load(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Load of %s gave %v, want InvalidArgument", name, err)
		}
	}
	if _, err := Load(Location{}); !errdefs.IsInvalidArgument(err) {
		t.Error("Load of an empty record must be refused")
	}
	if _, err := Open(1 << 30); !errdefs.IsNotFound(err) {
		t.Errorf("Open of no process gave %v, want NotFound", err)
	}
}
