// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/test/fakeoci"
)

// The record is in the bundle before the sink, State or Wait tells of the exit,
// and it names all that a later process needs; the container can be found only
// once its creation was told.
func TestRecordPrecedesEvents(t *testing.T) {
	r := newRig(t)
	inner := r.pod.cfg.Sink
	r.pod.cfg.Sink = func(e Event) {
		rec, err := readRecord(filepath.Join(r.dir, e.Container))
		switch {
		case err != nil:
			t.Errorf("%s: %v", e.word(), err)
		case e.Pid == 0 || rec.Pid != e.Pid || rec.StartTime == 0 || rec.Cgroup == nil:
			t.Errorf("%s: %+v", e.word(), rec)
		case e.Kind == TaskExit && (rec.Exit == nil || rec.Exit.Status != 6 || rec.Clean):
			t.Errorf("%s: exit %+v", e.word(), rec.Exit)
		case e.Kind == TaskDelete && (rec.Exit == nil || rec.Exit.Status != 6 || !rec.Clean):
			t.Errorf("%s: %+v", e.word(), rec)
		}
		_, err = r.pod.Container(e.Container)
		if e.Kind == TaskCreate && !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("the container is there before its create was told: %v", err)
		}
		if e.Kind == TaskDelete && err != nil {
			t.Errorf("the container has gone, and the pod may be idle, before its delete was told: %v", err)
		}
		inner(e)
	}
	c := r.run("a", "exit 6", fakeoci.Plan{})
	r.wait(c, "")
	r.remove(c)
	r.expect(c, "create", "start", "exit=6", "delete")
	if left, _ := filepath.Glob(filepath.Join(c.Bundle(), "."+recordName+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// smallDisk mounts a file system of its own on a container's bundle; fill
// leaves no room on it.
func (r *rig) smallDisk(id string) (fill func(), free func()) {
	r.Helper()
	dir := filepath.Join(r.dir, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.Fatal(err)
	}
	if err := unix.Mount("berth-test", dir, "tmpfs", 0, "size=256k"); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	fill = func() {
		f, err := os.Create(ballast)
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		f.Close()
		if !errors.Is(err, unix.ENOSPC) {
			r.Fatal(err)
		}
	}
	return fill, func() { _ = os.Remove(ballast) }
}

// A full disk withholds no exit, keeps it from no record, and no container
// from being deleted.
func TestExitOnAFullDisk(t *testing.T) {
	r := newRig(t)
	fill, _ := r.smallDisk("a")
	gate := r.fifo("gate")
	c := r.run("a", "await "+gate+" ; exit 12", fakeoci.Plan{})
	fill()
	r.release(gate)
	if exit := r.wait(c, ""); exit.Status != 12 {
		t.Errorf("exit %+v", exit)
	}
	if rec, err := readRecord(c.Bundle()); err != nil || rec.Exit == nil || rec.Exit.Status != 12 || rec.Pid != c.init.os.Pid() {
		t.Errorf("record %+v, %v", rec, err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.Bundle(), "."+recordName+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := c.Delete(r.ctx(), ""); err != nil {
		t.Error(err)
	}
	if rec, err := readRecord(c.Bundle()); err != nil || !rec.Clean {
		t.Errorf("record %+v, %v", rec, err)
	}
	r.expect(c, "create", "start", "exit=12", "delete")
}

// Where not even the old record can be replaced, the exit is told all the same.
func TestExitWithoutARecord(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.blockRecord(c.Bundle())
	r.kill(c, "")
	r.wait(c, "")
	r.expect(c, "create", "start", "exit=137")
}

// A create on a full disk leaves nothing and says why.
func TestCreateOnAFullDisk(t *testing.T) {
	r := newRig(t)
	fill, free := r.smallDisk("a")
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	fill()
	_, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle})
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	free()
	if _, err := os.Stat(filepath.Join(bundle, recordName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("record: %v", err)
	}
	if calls := fakeoci.Calls(t, bundle); len(calls) > 0 {
		t.Error("the runtime was called without a record")
	}
}

// Changes of the record by several goroutines are all written.
func TestRecordIsNotTorn(t *testing.T) {
	r := newRig(t)
	c := newContainer(r.pod, &CreateRequest{ID: "a", Bundle: t.TempDir()})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if err := c.updateRecord(func(rec *record) { rec.StartTime++ }); err != nil {
					t.Error(err)
				}
				if _, err := readRecord(c.Bundle()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if rec, err := readRecord(c.Bundle()); err != nil || rec.StartTime != 200 {
		t.Errorf("record %+v, %v", rec, err)
	}
}

// The second field of the stat file may hold anything that a name can.
func TestStartTimeOfAnOddName(t *testing.T) {
	r := newRig(t)
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.dir, "a) b (c) ")
	if err := os.WriteFile(path, sleep, 0o700); err != nil {
		t.Fatal(err)
	}
	plain, err := r.sup.Start(&process.Command{Path: "/bin/sleep", Args: []string{"infinity"}, DieWithParent: true})
	if err != nil {
		t.Fatal(err)
	}
	odd, err := r.sup.Start(&process.Command{Path: path, Args: []string{"infinity"}, DieWithParent: true})
	if err != nil {
		t.Fatal(err)
	}
	before, err := process.StartTime(plain.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if st, err := process.StartTime(odd.Pid()); err != nil || st < before || st > before+1000*100 {
		t.Errorf("start time %d, %v, want about %d", st, err, before)
	}
	for _, p := range []*process.Process{plain, odd} {
		_ = p.Signal(unix.SIGKILL)
		<-p.Done()
	}
}

// A cleanup in another process undoes mounts and hooks, once: what it did is
// on record.
func TestCleanupUndoesCreate(t *testing.T) {
	r := newRig(t)
	w := &witness{r: r}
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Rootfs: tmpfs}); err != nil {
		t.Fatal(err)
	}
	c, err := r.pod.Container("a")
	if err != nil {
		t.Fatal(err)
	}
	r.abandon(c)
	req := CleanupRequest{ID: "a", Bundle: bundle, Runtime: r.runtime, Hooks: hooks.Chain{w}}
	w.fail = errors.New("busy")
	if _, err := Cleanup(r.ctx(), req); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a cleanup that a hook refuses: %v", err)
	}
	for range 2 {
		if d, err := Cleanup(r.ctx(), req); err != nil || d.Exit.Status != 137 {
			t.Errorf("cleanup: %+v, %v", d, err)
		}
	}
	if got := fmt.Sprint(w.deleted); got != "[a:record a:record]" {
		t.Errorf("the hook found %s", got)
	}
	if dirs, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", r.cgroup("a"))); len(dirs) > 0 {
		t.Errorf("cgroups are left: %v", dirs)
	}
}

// A cleanup waits for another one, but no longer than it may.
func TestCleanupWaitsForAnother(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	if err := (&record{ID: "a"}).write(bundle); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockBundle(r.ctx(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	var unlocked, reached atomic.Bool
	req := CleanupRequest{ID: "a", Bundle: bundle, Runtime: func(o configs.Runtime, bundle string) (Runtime, error) {
		reached.Store(true)
		if !unlocked.Load() {
			t.Error("two cleanups ran at once")
		}
		return r.runtime(o, bundle)
	}}
	if _, err := Cleanup(gone(), req); err == nil {
		t.Error("a cleanup that may not wait has come to an end")
	}
	done := make(chan error, 1)
	go func() {
		_, err := Cleanup(r.ctx(), req)
		done <- err
	}()
	waiter := fmt.Sprintf("-> FLOCK  ADVISORY  WRITE %d ", os.Getpid())
	r.until("the cleanup waits for the lock", func() bool {
		locks, err := os.ReadFile("/proc/locks")
		return err != nil || strings.Contains(string(locks), waiter) || reached.Load()
	})
	unlocked.Store(true)
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
