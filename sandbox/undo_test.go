// SPDX-License-Identifier: Apache-2.0

package sandbox

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

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/process/oci"
	"berth/test/fakeoci"
)

// witness is a hook that notes what it finds when a container goes.
type witness struct {
	r       *rig
	deleted []string // what was left of each container when the hook's turn came
	fail    error    // of the next Delete
}

func (w *witness) Name() string                              { return "witness" }
func (w *witness) Create(context.Context, *hooks.Spec) error { return nil }

func (w *witness) Delete(_ context.Context, id string) error {
	var left []string
	for what, path := range map[string]string{
		"state": filepath.Join(w.r.root, id), "record": filepath.Join(w.r.dir, id, recordName),
	} {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, what)
		}
	}
	if mounted(filepath.Join(w.r.dir, id, "rootfs")) {
		left = append(left, "rootfs")
	}
	slices.Sort(left)
	w.deleted = append(w.deleted, id+":"+strings.Join(left, ","))
	err := w.fail
	w.fail = nil
	return err
}

func (r *rig) witness() *witness {
	w := &witness{r: r}
	r.pod.cfg.Hooks = append(r.pod.cfg.Hooks, w)
	return w
}

// mounted says whether anything is mounted at dir.
func mounted(dir string) bool {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	return strings.Contains(string(mounts), " "+dir+" ")
}

// tmpfs is a root file system of two layers, which the fake runtime ignores.
var tmpfs = []Mount{{Type: "tmpfs", Source: "berth-test"}, {Type: "tmpfs", Source: "berth-test"}}

// blockRecord makes writing the record fail from now on.
func (r *rig) blockRecord(bundle string) {
	r.Helper()
	path := filepath.Join(bundle, recordName)
	_ = os.Remove(path)
	if err := os.Mkdir(path, 0o700); err != nil {
		r.Fatal(err)
	}
}

// unused checks that nobody has a FIFO open: a reader finds its end at once.
func (r *rig) unused(fifo string) {
	r.Helper()
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		r.Fatal(err)
	}
	defer unix.Close(fd)
	if n, err := unix.Read(fd, make([]byte, 1)); n != 0 || err != nil {
		r.Errorf("%s is still open: read %d, %v", filepath.Base(fifo), n, err)
	}
}

// A create that fails after the runtime has made the container is undone, in
// reverse; the init dies even if the runtime does not delete it.
func TestCreateThatFailsLate(t *testing.T) {
	for name, plan := range map[string]fakeoci.Verb{
		"delete works": {}, "delete fails": {Fail: &fakeoci.Fail{Message: "cannot"}, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := r.witness()
			worked, gate, in := r.fifo("worked"), r.fifo("gate"), r.fifo("in")
			bundle := r.bundle("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
				"create": {Worked: worked, After: gate}, "delete": plan,
			}})
			req := &CreateRequest{ID: "a", Bundle: bundle, Rootfs: tmpfs, Stdio: process.Stdio{Stdin: in}}
			created := make(chan error, 1)
			go func() {
				_, err := r.pod.Create(r.ctx(), req)
				created <- err
			}()
			r.reached(worked)
			if !mounted(filepath.Join(bundle, "rootfs")) {
				t.Error("the root file system is not mounted")
			}
			if _, err := r.pod.Create(r.ctx(), req); !errors.Is(err, errdefs.ErrAlreadyExists) {
				t.Errorf("a second create: %v", err)
			}
			r.blockRecord(bundle)
			r.release(gate)
			if err := <-created; err == nil || !strings.Contains(err.Error(), "record") {
				t.Errorf("create: %v", err)
			}
			var pid int
			for _, c := range fakeoci.Calls(t, bundle) {
				pid = max(pid, c.Made)
			}
			r.until("the init is gone", func() bool { return procState(pid) == "" })
			want := "a:record" // the last thing to go
			if plan.Fail != nil {
				want = "a:record,state"
				rt, _ := r.runtime(req.Options, bundle)
				if err := rt.Delete(r.ctx(), "a", true); err != nil {
					t.Error(err)
				}
			}
			if len(w.deleted) != 1 || w.deleted[0] != want {
				t.Errorf("the hook found %q, want %q", w.deleted, want)
			}
			if _, err := os.Stat(filepath.Join(bundle, recordName)); (err == nil) != (plan.Fail != nil) {
				t.Errorf("the record, which is for what could not be undone: %v", err)
			}
			r.unused(in)
			if story := r.story(&Container{req: req}); len(story) > 0 {
				t.Errorf("told %v", story)
			}
		})
	}
}

// leaver is a runtime whose client leaves as soon as the container is made.
type leaver struct {
	Runtime
	leave func()
}

func (l leaver) Create(ctx context.Context, r *oci.CreateRequest) (*process.Process, error) {
	p, err := l.Runtime.Create(ctx, r)
	l.leave()
	return p, err
}

// A client that has gone by the time the container is made gets it undone, in
// a time that is not the client's.
func TestCreateForNobody(t *testing.T) {
	r := newRig(t)
	ctx, leave := context.WithCancel(r.ctx())
	r.pod.cfg.Runtime = func(o configs.Runtime, bundle string) (Runtime, error) {
		rt, err := r.runtime(o, bundle)
		return leaver{rt, leave}, err
	}
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	if _, err := r.pod.Create(ctx, &CreateRequest{ID: "a", Bundle: bundle}); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.root, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime keeps the container: %v", err)
	}
}

// A delete undoes what the create did, in reverse.
func TestDeleteUndoesCreate(t *testing.T) {
	r := newRig(t)
	w := r.witness()
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Rootfs: tmpfs}); err != nil {
		t.Fatal(err)
	}
	c, err := r.pod.Container("a")
	if err != nil {
		t.Fatal(err)
	}
	user, err := os.Open(filepath.Join(bundle, "rootfs")) // keeps the mount busy
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	r.remove(c)
	if want := []string{"a:record"}; !slices.Equal(w.deleted, want) {
		t.Errorf("the hook found %q, want %q", w.deleted, want)
	}
	r.expect(c, "create", "exit=137", "delete")
}

// What cannot be mounted leaves nothing mounted.
func TestMountThatFails(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	rootfs := []Mount{tmpfs[0], {Type: "tmpfs", Source: "berth-test", Options: []string{"size=what"}}}
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Rootfs: rootfs}); err == nil {
		t.Fatal("no error")
	}
	if mounted(filepath.Join(bundle, "rootfs")) {
		t.Error("a mount is left")
		_ = unmountRootfs(bundle)
	}
}

// Nothing is mounted through a link in the place of the root file system, though
// the spec names another directory as the root.
func TestMountFollowsNoLink(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	victim, target := filepath.Join(r.dir, "victim"), filepath.Join(bundle, "rootfs")
	spec := []byte(`{"root":{"path":"` + victim + `"},"process":{"args":["fake","sleep"]}}`)
	if err := errors.Join(os.Mkdir(victim, 0o700), os.Remove(target), os.Symlink(victim, target),
		os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Rootfs: tmpfs})
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "is no directory") {
		t.Errorf("create: %v", err)
	}
	if mounted(victim) {
		t.Error("something is mounted where the link points to")
		_ = unix.Unmount(victim, unix.MNT_DETACH)
	}
}

// A link in the place of the root file system is not followed.
func TestUnmountFollowsNoLink(t *testing.T) {
	r := newRig(t)
	victim, bundle := filepath.Join(r.dir, "victim"), filepath.Join(r.dir, "b")
	for _, dir := range []string{victim, bundle} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("berth-test", victim, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(victim, unix.MNT_DETACH) }()
	if err := os.Symlink(victim, filepath.Join(bundle, "rootfs")); err != nil {
		t.Fatal(err)
	}
	if err := unmountRootfs(bundle); err != nil {
		t.Error(err)
	}
	if !mounted(victim) {
		t.Error("what the link points to was unmounted")
	}
}

// A pod that was closed because it was idle takes no container.
func TestClosedPod(t *testing.T) {
	r := newRig(t)
	if !r.pod.CloseIdle() {
		t.Fatal("an empty pod is not idle")
	}
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("create: %v", err)
	}
}

// restored makes a container that Start restores.
func (r *rig) restored(plan fakeoci.Plan) *Container {
	r.Helper()
	image := filepath.Join(r.dir, "image")
	if err := os.Mkdir(image, 0o700); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(image, "fake.img"), nil, 0o600); err != nil {
		r.Fatal(err)
	}
	bundle := r.bundle("a", "sleep", plan)
	if pid, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Checkpoint: image}); pid != 0 || err != nil {
		r.Fatalf("create: %d, %v", pid, err)
	}
	c, err := r.pod.Container("a")
	if err != nil {
		r.Fatal(err)
	}
	return c
}

func TestRestore(t *testing.T) {
	r := newRig(t)
	c := r.restored(fakeoci.Plan{})
	if err := c.Kill(r.ctx(), "", unix.SIGKILL, false); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("kill before the start: %v", err)
	}
	if _, err := c.Start(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	r.kill(c, "")
	r.wait(c, "")
	r.remove(c)
	r.expect(c, "create", "start", "exit=137", "delete")
}

// A container that was to be restored and never was can be deleted; nothing
// can be started in it then.
func TestDeleteUnrestored(t *testing.T) {
	r := newRig(t)
	w := r.witness()
	c := r.restored(fakeoci.Plan{})
	w.fail = errors.New("busy")
	if _, err := c.Delete(r.ctx(), ""); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a delete that a hook refuses: %v", err)
	}
	if _, err := c.Start(r.ctx(), ""); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("start after a delete: %v", err)
	}
	if d, err := c.Delete(r.ctx(), ""); err != nil || d.Exit.Status != 255 {
		t.Errorf("delete: %+v, %v", d, err)
	}
	r.expect(c, "create", "delete")
}

// While a restore is under way, the record has the cgroup of what it makes: of
// a runtime that is killed with its shim nothing else would tell.
func TestRestoreIsOnRecord(t *testing.T) {
	r := newRig(t)
	worked, gate := r.fifo("worked"), r.fifo("gate")
	c := r.restored(fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"restore": {Worked: worked, After: gate}}})
	started := make(chan error, 1)
	go func() {
		_, err := c.Start(r.ctx(), "")
		started <- err
	}()
	r.reached(worked)
	rec, err := readRecord(c.Bundle())
	if err != nil || rec.Pid != 0 || rec.Claimed == nil {
		t.Errorf("record %+v, %v", rec, err)
	} else if err := rec.killAll(r.ctx()); err != nil {
		t.Error(err)
	}
	r.release(gate)
	if err := <-started; err != nil {
		t.Error(err)
	}
	if exit := r.wait(c, ""); exit.Status != 137 { // of what was killed before it was known
		t.Errorf("exit %+v", exit)
	}
}

// A restore that fails after the runtime has made the container is undone, and
// the container can be deleted; the init dies even if the runtime deletes
// nothing.
func TestRestoreThatFailsLate(t *testing.T) {
	for name, plan := range map[string]fakeoci.Verb{
		"delete works": {}, "delete fails": {Fail: &fakeoci.Fail{Message: "cannot"}, Times: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			worked, gate := r.fifo("worked"), r.fifo("gate")
			c := r.restored(fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
				"restore": {Worked: worked, After: gate}, "delete": plan,
			}})
			started := make(chan error, 1)
			go func() {
				_, err := c.Start(r.ctx(), "")
				started <- err
			}()
			r.reached(worked)
			r.blockRecord(c.Bundle())
			r.release(gate)
			if err := <-started; err == nil {
				t.Error("the restore succeeded")
			}
			var pid int
			for _, call := range fakeoci.Calls(t, c.Bundle()) {
				pid = max(pid, call.Made)
			}
			r.until("the init is gone", func() bool { return procState(pid) == "" })
			if left, _ := os.ReadDir(r.root); len(left) > 0 && plan.Fail == nil {
				t.Errorf("the runtime keeps %v", left)
			}
			if err := os.Remove(filepath.Join(c.Bundle(), recordName)); err != nil {
				t.Fatal(err)
			}
			if d, err := c.Delete(r.ctx(), ""); err != nil || d.Exit.Status != 255 {
				t.Errorf("delete: %+v, %v", d, err)
			}
			r.expect(c, "create", "delete")
		})
	}
}

// An exec that the runtime refuses keeps no stream open.
func TestFailedExecClosesStreams(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{"exec": {Fail: &fakeoci.Fail{Message: "refused"}}}})
	out := r.reading(r.fifo("out"))
	data := []byte(`{"args":["fake","sleep"]}`)
	if err := c.Exec(ExecRequest{ID: "e", Process: data, Stdio: process.Stdio{Stdout: out}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(r.ctx(), "e"); err == nil {
		t.Error("no error")
	}
	r.unused(out)
}

// The cgroup of a container that the runtime does not know any more goes with its delete.
func TestDeleteOfAForgottenContainer(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 3", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"delete": {Fail: &fakeoci.Fail{Message: "container does not exist"}},
	}})
	r.wait(c, "")
	if _, err := c.Delete(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		if left, _ := filepath.Glob(pattern + r.cgroup("a")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// An exec that fails because the init ends meanwhile says so, whatever the runtime
// says. One that fails beside a running init does not.
func TestExecThatTheExitOvertakes(t *testing.T) {
	for name, ends := range map[string]bool{"init ends": true, "init runs": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			reached, gate := r.fifo("reached"), r.fifo("gate")
			c := r.run("a", "sleep", fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
				"exec": {Reached: reached, Before: gate, Fail: &fakeoci.Fail{Message: "no such namespace"}},
			}})
			if err := c.Exec(ExecRequest{ID: "e", Process: []byte(`{"args":["fake","sleep"]}`)}); err != nil {
				t.Fatal(err)
			}
			started := make(chan error, 1)
			go func() {
				_, err := c.Start(r.ctx(), "e")
				started <- err
			}()
			r.reached(reached)
			if ends {
				if err := c.Kill(r.ctx(), "", unix.SIGKILL, false); err != nil {
					t.Error(err)
				}
				<-c.init.os.Done()
			}
			r.release(gate)
			err := <-started
			if errdefs.IsFailedPrecondition(err) != ends || strings.Contains(err.Error(), "has exited") != ends ||
				!strings.Contains(err.Error(), "no such namespace") {
				t.Errorf("start: %v", err)
			}
		})
	}
}

// late is a runtime whose calls cannot be cut short and come back with success
// when the test lets them.
type late struct {
	Runtime
	begun, gate chan struct{}
}

func (l late) Start(context.Context, string) error {
	close(l.begun)
	<-l.gate
	return nil
}

func (l late) Exec(ctx context.Context, r *oci.ExecRequest) (*process.Process, error) {
	p, err := l.Runtime.Exec(ctx, r)
	close(l.begun)
	<-l.gate
	return p, err
}

// A start that was given up and succeeds after the init's exit was told is
// undone: nothing follows that exit, and nobody is told of a revival.
func TestStartThatSucceedsTooLate(t *testing.T) {
	for _, exec := range []string{"", "e"} {
		t.Run("exec="+exec, func(t *testing.T) {
			r := newRig(t)
			r.pod.grace.start = time.Millisecond
			l := late{begun: make(chan struct{}), gate: make(chan struct{})}
			c := r.create("a", "sleep", fakeoci.Plan{})
			want := []string{"create", "exit=137"}
			if exec != "" {
				if _, err := c.Start(r.ctx(), ""); err != nil {
					t.Fatal(err)
				}
				r.addExec(c, exec, "sleep")
				want = []string{"create", "start", "exec-added:e", "exit=137"}
			}
			l.Runtime = c.rt
			c.rt = l
			started := make(chan error, 1)
			go func() {
				_, err := c.Start(r.ctx(), exec)
				started <- err
			}()
			<-l.begun
			r.kill(c, "")
			r.wait(c, "")
			close(l.gate)
			if err := <-started; err == nil {
				t.Error("the start succeeded")
			}
			if st, err := c.Status(""); err != nil || st.State != Stopped {
				t.Errorf("status %+v, %v", st, err)
			}
			c.rt = l.Runtime
			r.expect(c, want...)
		})
	}
}
