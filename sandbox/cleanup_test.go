// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/hooks"
	"berth/process"
	"berth/process/cgroup"
	"berth/test/fakeoci"
)

func (r *rig) cleanup(c *Container) (Deleted, error) {
	return Cleanup(r.ctx(), CleanupRequest{ID: c.req.ID, Bundle: c.Bundle(), Runtime: r.runtime})
}

// abandon forgets a container, as the death of its shim would. What the kernel
// would close is closed at the end of the test.
func (r *rig) abandon(c *Container) {
	r.pod.remove(c.req.ID)
	r.Cleanup(func() {
		r.wait(c, "") // its watcher lives on
		c.closeStreams(r.ctx())
		c.closeCgroup()
	})
}

func TestCleanupKillsWhatRuns(t *testing.T) {
	r := newRig(t)
	alive := r.fifo("alive")
	c := r.run("a", "orphan ignore ; touch "+alive+" ; sleep endfork ; ignore ; sleep", fakeoci.Plan{})
	r.reached(alive)
	pids, err := c.Pids()
	if err != nil {
		t.Fatal(err)
	}
	r.abandon(c)
	var wg sync.WaitGroup
	for range 4 { // as containerd does for a pod, and again
		wg.Go(func() {
			d, err := r.cleanup(c)
			if err != nil || d.Exit.Status != 137 || d.Pid != c.init.os.Pid() {
				t.Errorf("cleanup: %+v, %v", d, err)
			}
		})
	}
	wg.Wait()
	for _, p := range pids {
		if state := procState(p.Pid); state != "" && state != "Z" {
			t.Errorf("process %d is in state %s", p.Pid, state)
		}
	}
	if _, err := os.Stat(filepath.Join(r.root, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime keeps the container: %v", err)
	}
}

// The shim died after the exit and before the delete: the true status is told.
func TestCleanupReturnsTheRecordedExit(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 12", fakeoci.Plan{})
	exit := r.wait(c, "")
	r.abandon(c)
	for range 2 {
		d, err := r.cleanup(c)
		if err != nil || d.Exit.Status != 12 || !d.Exit.At.Equal(exit.At.Round(0)) {
			t.Errorf("cleanup: %+v, %v, want %+v", d, err, exit)
		}
	}
}

// After a proper delete the runtime is not asked again.
func TestCleanupAfterDelete(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 12", fakeoci.Plan{})
	r.wait(c, "")
	if _, err := c.Delete(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	before := len(fakeoci.Calls(t, c.Bundle()))
	d, err := r.cleanup(c)
	if err != nil || d.Exit.Status != 12 {
		t.Errorf("cleanup: %+v, %v", d, err)
	}
	if after := len(fakeoci.Calls(t, c.Bundle())); after != before {
		t.Errorf("the runtime was called")
	}
}

// A pid that another process has by now is left alone.
func TestCleanupSparesAReusedPid(t *testing.T) {
	r := newRig(t)
	bystander, err := r.sup.Start(&process.Command{Path: "/bin/sleep", Args: []string{"infinity"}})
	if err != nil {
		t.Fatal(err)
	}
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	started, err := process.StartTime(bystander.Pid())
	if err != nil {
		t.Fatal(err)
	}
	rec := record{ID: "a", Pid: bystander.Pid(), StartTime: started - 1}
	if err := rec.write(bundle); err != nil {
		t.Fatal(err)
	}
	if _, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: bundle, Runtime: r.runtime}); err != nil {
		t.Error(err)
	}
	if err := bystander.Signal(0); err != nil {
		t.Errorf("the bystander was killed: %v", err)
	}
	_ = bystander.Signal(unix.SIGKILL)
	<-bystander.Done()
}

// Nothing was begun, or nothing is left: no error.
func TestCleanupOfNothing(t *testing.T) {
	r := newRig(t)
	for name, bundle := range map[string]string{"empty": t.TempDir(), "missing": filepath.Join(r.dir, "none")} {
		d, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: bundle, Runtime: r.runtime})
		if err != nil || d.Exit.Status != 137 || time.Since(d.Exit.At) > time.Hour {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

// A shim that died in a hook has left no record, and perhaps what the hook made.
func TestCleanupGivesBackWithoutARecord(t *testing.T) {
	r := newRig(t)
	h := &witness{r: r}
	for want := range 2 {
		if len(h.deleted) != want {
			t.Errorf("the hook was called %d times, not %d", len(h.deleted), want)
		}
		if d, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: t.TempDir(), Runtime: r.runtime, Hooks: hooks.Chain{h}}); err != nil || d.Left {
			t.Errorf("%+v, %v", d, err)
		}
	}
	held := errors.New("held")
	h.fail = held
	if _, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: t.TempDir(), Runtime: r.runtime, Hooks: hooks.Chain{h}}); !errors.Is(err, held) {
		t.Errorf("the hook failed, and the answer is %v", err)
	}
}

// The runtime cannot delete, and nobody may ask again: what a hook holds is
// given back all the same, and the next cleanup starts over.
func TestCleanupGivesBackThoughTheRuntimeFails(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"delete": {Fail: &fakeoci.Fail{Message: "broken"}}}})
	r.abandon(c)
	h := &witness{r: r}
	for range 2 {
		h.deleted = nil
		_, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: c.Bundle(), Runtime: r.runtime, Hooks: hooks.Chain{h}})
		if err == nil || !strings.Contains(err.Error(), "broken") || len(h.deleted) != 1 {
			t.Errorf("gave back %q, error %v", h.deleted, err)
		}
	}
	fakeoci.Plan{}.Write(t, c.Bundle())
	if _, err := r.cleanup(c); err != nil {
		t.Error(err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"id":"a","pid":3,"start_time":9,"exit":{"status":1,"at":"2026-01-02T03:04:05Z","known":true},"clean":true}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parseRecord(data)
		if (rec == nil) == (err == nil) {
			t.Error("a record and an error, or neither")
		}
		if rec := salvage(data); rec.Pid < 0 {
			t.Errorf("salvaged %+v", rec)
		}
	})
}

func TestStartTime(t *testing.T) {
	if st, err := process.StartTime(os.Getpid()); err != nil || st == 0 {
		t.Errorf("own start time: %d, %v", st, err)
	}
	if _, err := process.StartTime(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody's start time: %v", err)
	}
}

// A shim that dies between the claim of a cgroup and its record leaves an empty
// one; it may die before the record's first version, which is written meanwhile.
func TestCleanupOfAnUnrecordedClaim(t *testing.T) {
	for name, recorded := range map[string]bool{"record": true, "no record": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			bundle := r.bundle("a", "sleep", fakeoci.Plan{})
			if recorded {
				if err := (&record{ID: "a"}).write(bundle); err != nil {
					t.Fatal(err)
				}
			}
			loc, err := cgroup.Claim(r.cgroup("a"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: bundle, Runtime: r.runtime}); err != nil {
				t.Fatal(err)
			}
			for controller, dir := range loc.Dirs {
				if _, err := os.Stat(dir.Path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the %q cgroup is left: %v", controller, err)
				}
			}
		})
	}
}
