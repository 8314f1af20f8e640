// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/process"
)

func (r *rig) record(t *testing.T) *Record {
	t.Helper()
	rec, err := readRecord(filepath.Join(r.Dir, owner.key()))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func members(r *Record) (ids []string) {
	for _, m := range r.Members {
		ids = append(ids, m.ID)
	}
	return ids
}

// ended waits for the end of a daemon that this process has started. The bound
// turns a hang into a failure.
func ended(t *testing.T, seat *Seat) {
	t.Helper()
	select {
	case <-seat.Started.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the daemon has not ended")
	}
}

// TestLife has two containers share a daemon, whose limits are set before they
// come, and that ends with the second.
func TestLife(t *testing.T) {
	r := newRig(t)
	q := r.request("a", "memory=10GiB,threads=25")
	q.OOMScoreAdj = 321
	a := r.join(t, q)
	if score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", a.Daemon.PID)); string(score) != "321\n" {
		t.Errorf("OOM score %s, %v", score, err)
	}
	if a.Started == nil || a.Started.Pid() != a.Daemon.PID {
		t.Fatalf("seat %+v", a)
	}
	if !slices.Equal(a.Hidden, []string{privileged}) || !slices.Equal(a.Writable, []string{"control_lock"}) {
		t.Errorf("hidden %q, writable %q", a.Hidden, a.Writable)
	}
	got := r.client(t)
	for _, d := range []string{r.driver.GPUs[0].UUID, r.driver.GPUs[1].UUID, "0", "1"} {
		if !strings.Contains(got, d+"=10240M") {
			t.Errorf("the client has no limit for %s: %s", d, got)
		}
	}
	if !strings.Contains(got, "threads 25.0") || !strings.Contains(got, "shared memory says server") {
		t.Errorf("the client got %s", got)
	}
	if shm, err := os.ReadDir(a.Shm); err != nil || len(shm) != 1 {
		t.Errorf("%v, %v is in the pod's shared memory, want the server's", shm, err)
	}
	if b := r.join(t, r.request("b", "memory=10GiB,threads=25")); b.Daemon != a.Daemon || b.Started != nil || b.Pipe != a.Pipe {
		t.Errorf("seat %+v, want that of %+v", b, a)
	}
	if again := r.join(t, r.request("b", "memory=10GiB,threads=25")); again.Daemon != a.Daemon || len(r.record(t).Members) != 2 {
		t.Errorf("members %q", members(r.record(t)))
	}
	r.leave(t, "a")
	if rec := r.record(t); !slices.Equal(members(rec), []string{"b"}) || !rec.Alive() {
		t.Errorf("record %+v", rec)
	}
	if r.leave(t, "stranger"); !r.record(t).Alive() {
		t.Error("one that was no member has stopped it")
	}
	r.leave(t, "b")
	ended(t, a)
	if exit := a.Started.Exit(); exit.Status != 0 {
		t.Errorf("the daemon was killed (%d), and not asked", exit.Status)
	}
	r.leave(t, "b")
	if lost := r.Lost(owner, a.Daemon); lost != nil {
		t.Errorf("%q have lost their daemon", lost)
	}
}

// TestRefused has containers that cannot share what there is, and change nothing.
func TestRefused(t *testing.T) {
	r := newRig(t)
	r.join(t, r.request("a", "threads=25"))
	before := r.record(t)
	for name, c := range map[string]struct {
		edit func(*Request)
		says string
	}{
		"limits":  {func(q *Request) { q.Ask.Threads = 50 }, `"threads=25", and this one asks for "threads=50"`},
		"devices": {func(q *Request) { q.Devices = q.Devices[:1] }, "give both the same devices"},
		"user":    {func(q *Request) { q.UID = 1000 }, "runs as user 0 of the host, and this one as 1000, whose programs would wait"},
	} {
		t.Run(name, func(t *testing.T) {
			q := r.request("b", "threads=25")
			c.edit(&q)
			if _, err := r.Join(t.Context(), q); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if after := r.record(t); !slices.Equal(members(after), members(before)) {
		t.Errorf("members %q", members(after))
	}
	r.leave(t, "a")
}

// TestUsers has a daemon that serves all users, by a server of root's.
func TestUsers(t *testing.T) {
	r := newRig(t)
	r.Multiuser = true
	q := r.request("a", "on")
	q.UID = 1000
	r.join(t, q)
	r.join(t, r.request("b", "on"))
	if got := r.client(t); !strings.Contains(got, "of user 0") {
		t.Errorf("the client got %s", got)
	}
	r.leave(t, "a")
	r.leave(t, "b")
}

// TestStartFails has daemons that do not come up as they should: nothing is left,
// and the error quotes what they said.
func TestStartFails(t *testing.T) {
	for how, says := range map[string]string{"start-crash": "fake crash at the start", "limit-ignore": "was set to 25, and is \"100.0"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, how)
			if _, err := r.Join(t.Context(), r.request("a", "threads=25")); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("the error is %v, want one that says %s", err, says)
			}
		})
	}
	t.Run("start-hang", func(t *testing.T) {
		r := newRig(t, "start-hang")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := r.Join(ctx, r.request("a", "on")); err == nil || !strings.Contains(err.Error(), "was killed") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("no helper", func(t *testing.T) {
		r := newRig(t)
		r.Helper = "/no/such/berth-gpu"
		if _, err := r.Join(t.Context(), r.request("a", "on")); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "install berth-gpu") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("no program", func(t *testing.T) {
		r := newRig(t)
		q := r.request("a", "on")
		q.Control = "/no/such/control"
		if _, err := r.Join(t.Context(), q); err == nil || !strings.Contains(err.Error(), "/no/such/control") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestStubborn has daemons that do not quit: they are killed, and their servers,
// though these have left their session.
func TestStubborn(t *testing.T) {
	for _, how := range []string{"quit-ignore", "quit-hang"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			seat := r.join(t, r.request("a", "on"))
			var server int
			if _, err := fmt.Sscanf(r.client(t), "server %d", &server); err != nil {
				t.Fatal(err)
			}
			r.misbehave(t, how)
			r.leave(t, "a")
			ended(t, seat)
			if exit := seat.Started.Exit(); exit.Status != 128+int(unix.SIGKILL) {
				t.Errorf("the daemon ended with %d", exit.Status)
			}
			if err := unix.Kill(server, 0); err != unix.ESRCH {
				if state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server)); !strings.Contains(string(state), ") Z ") {
					t.Errorf("the server lives: %v, %s", err, state)
				}
			}
		})
	}
}

// TestRecordFirst has the helper look at the record: it says what there is to be
// undone before anything runs.
func TestRecordFirst(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.Dir, owner.key())
	saved := filepath.Join(t.TempDir(), recordName)
	r.Helper = filepath.Join(filepath.Dir(saved), "helper")
	if err := os.WriteFile(r.Helper, fmt.Appendf(nil, "#!/bin/sh\ncp %s %s\nexit 1\n", filepath.Join(dir, recordName), saved), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Join(t.Context(), r.request("a", "on")); err == nil {
		t.Fatal("a helper that fails starts a daemon")
	}
	rec, err := readRecord(filepath.Dir(saved))
	if err != nil || rec.State != Starting || len(rec.Cgroup.Dirs) == 0 || !slices.Equal(members(rec), []string{"a"}) {
		t.Errorf("record %+v, %v", rec, err)
	}
}

// TestQuitIsKnown has a daemon end because it was asked to: nobody takes that for
// its death.
func TestQuitIsKnown(t *testing.T) {
	r := newRig(t)
	seat := r.join(t, r.request("a", "on"))
	p, err := r.lockPod(t.Context(), owner.key(), false, false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.unlock()
	p.quit(t.Context(), control)
	ended(t, seat)
	if lost := r.Lost(owner, seat.Daemon); lost != nil {
		t.Errorf("%q have lost their daemon", lost)
	}
	if err := p.stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLock has many lock a directory that each of them removes: nobody holds the
// lock of one that is not there any more.
func TestLock(t *testing.T) {
	h := &Host{Dir: t.TempDir()}
	done := make(chan error)
	const workers, rounds = 8, 40
	for range workers {
		go func() {
			for range rounds {
				p, err := h.lockPod(t.Context(), "key", true, false)
				if err != nil {
					done <- err
					return
				}
				here, err := p.lock.Stat()
				there, gone := os.Lstat(p.path)
				if err != nil || gone != nil || !os.SameFile(here, there) {
					err = fmt.Errorf("the lock is of another directory: %v, %v", err, gone)
				}
				err = errors.Join(err, os.Remove(p.path))
				p.unlock()
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestTampered has a container change the daemon's files: nobody asks anything
// of what it has put there.
func TestTampered(t *testing.T) {
	r := newRig(t)
	seat := r.join(t, r.request("a", "on"))
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(seat.Pipe, "control_lock")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, lock); err != nil {
		t.Fatal(err)
	}
	r.leave(t, "a")
	ended(t, seat)
	if exit := seat.Started.Exit(); exit.Status != 128+int(unix.SIGKILL) {
		t.Errorf("the daemon ended with %d, as if somebody had asked it to", exit.Status)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "as it was" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestDies has a daemon die under its members: they are told of, it is not
// started again beside them, but is once they have gone.
func TestDies(t *testing.T) {
	r := newRig(t)
	a := r.join(t, r.request("a", "on"))
	r.join(t, r.request("b", "on"))
	if err := a.Started.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, a)
	if lost := r.Lost(owner, a.Daemon); !slices.Equal(lost, []string{"a", "b"}) {
		t.Errorf("%q have lost their daemon", lost)
	}
	if _, err := r.Join(t.Context(), r.request("a", "on")); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), `container "b" still runs`) {
		t.Errorf("the error is %v", err)
	}
	r.leave(t, "b")
	again := r.join(t, r.request("a", "on"))
	if again.Daemon == a.Daemon || r.Lost(owner, a.Daemon) != nil {
		t.Errorf("the daemon of %+v", again)
	}
	r.leave(t, "a")
}

// TestAnotherProcess has one that did not start the daemon stop it, as `shim
// delete` does, at the same time as others.
func TestAnotherProcess(t *testing.T) {
	r := newRig(t)
	seat := r.join(t, r.request("a", "on"))
	r.join(t, r.request("b", "on"))
	sup := process.NewSupervisor()
	defer sup.Close()
	other := *r.Host
	other.Supervisor = sup
	failed := make(chan error, 4)
	for _, id := range []string{"a", "b", "a", "b"} {
		go func() { failed <- other.Leave(t.Context(), owner, id, control) }()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	ended(t, seat)
	r.wantNothing(t)
}
