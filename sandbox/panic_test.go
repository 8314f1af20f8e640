// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"berth/hooks"
	"berth/process"
	"berth/test/fakeoci"
)

// broken is a hook with a bug that one container meets.
type broken struct{ id string }

func (broken) Name() string                         { return "broken" }
func (broken) Delete(context.Context, string) error { return nil }

func (b broken) Create(_ context.Context, spec *hooks.Spec) error {
	if spec.ID() == b.id {
		panic("a test's")
	}
	return nil
}

// A bug that one container meets fails that container alone.
func TestPanicOfACreate(t *testing.T) {
	r := newRig(t, broken{"a"})
	beside := r.run("b", "sleep", fakeoci.Plan{})
	_, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: r.bundle("a", "sleep", fakeoci.Plan{})})
	if !errors.Is(err, errdefs.ErrInternal) {
		t.Fatalf("create: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "a", recordName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a record is left: %v", err)
	}
	if _, err := r.pod.Container("a"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("the pod keeps it: %v", err)
	}
	if st, _ := beside.Status(""); st.State != Running {
		t.Errorf("the container beside it is %v", st.State)
	}
}

// buggy is a kernel whose cgroup, of the container a, panics in one of its calls.
type buggy struct {
	Runtime
	Kernel
	in  string
	hit *atomic.Int32 // how often
}

func (b buggy) Cgroup(id string, init *process.Process) (Cgroup, error) {
	cg, err := b.Kernel.Cgroup(id, init)
	if err != nil || id != "a" {
		return cg, err
	}
	return &buggyCgroup{cg, b}, nil
}

type buggyCgroup struct {
	Cgroup
	b buggy
}

func (c *buggyCgroup) meet(call string) {
	if c.b.in == call {
		c.b.hit.Add(1)
		panic("a test's, in " + call)
	}
}

func (c *buggyCgroup) Kill(ctx context.Context) error {
	c.meet("Kill")
	return c.Cgroup.Kill(ctx)
}

func (c *buggyCgroup) Snapshot() {
	c.meet("Snapshot")
	c.Cgroup.Snapshot()
}

func (c *buggyCgroup) OOMKills() (uint64, error) {
	c.meet("OOMKills")
	return c.Cgroup.OOMKills()
}

// What follows a process meets a bug in what it calls when that ends, and meets it again
// when the container is killed for it: the end is told all the same, with the status
// that there was, an exec's before the init's, and the container beside it does not
// notice.
func TestPanicOfAWatcher(t *testing.T) {
	for _, tc := range []struct {
		in  string
		who string // what ends by itself: an exec, or the init
	}{{"Kill", ""}, {"Snapshot", ""}, {"OOMKills", ""}, {"OOMKills", "e"}} {
		t.Run(tc.in+tc.who, func(t *testing.T) {
			r := newRig(t)
			var hit atomic.Int32
			r.wrap = func(rt Runtime) Runtime {
				return buggy{rt, ThisKernel(r.sup), tc.in, &hit}
			}
			c, beside := r.run("a", "sleep", fakeoci.Plan{}), r.run("b", "sleep", fakeoci.Plan{})
			r.exec(c, "e", "sleep")
			who := c.init.os
			if tc.who != "" {
				who = c.execs[tc.who].os
			}
			if err := who.Signal(unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for _, exec := range []string{"e", ""} {
				if exit := r.wait(c, exec); exit.Status != killed {
					t.Errorf("exit of %q is %+v", exec, exit)
				}
			}
			<-c.init.os.Done()
			r.expect(c, "create", "start", "exec-added:e", "exec-started:e", "exit:e=137", "exit=137")
			if hit.Load() == 0 {
				t.Error("there was no panic")
			}
			if st, _ := beside.Status(""); st.State != Running {
				t.Errorf("the container beside it is %v", st.State)
			}
			if rec, err := readRecord(c.req.Bundle); err != nil || rec.Exit == nil {
				t.Errorf("the record is %+v, %v", rec, err)
			}
		})
	}
}

// victim is a cgroup whose kernel has killed one process more at each reading.
type victim struct {
	Cgroup
	kills atomic.Uint64
}

func (v *victim) OOMKills() (uint64, error) { return v.kills.Add(1), nil }

// A sink that meets a bug in one event is given those behind it, in order, whoever
// hands it over: the watch of OOM kills, a call, or what follows a process to its end.
// No container is the worse for it.
func TestPanicOfTheSink(t *testing.T) {
	r := newRig(t)
	var hit atomic.Int32
	r.pod.cfg.Sink = func(e Event) {
		if e.Kind == TaskOOM || e.Kind == TaskExecAdded {
			hit.Add(1)
			panic("a test's, of an event")
		}
		r.record(e)
	}
	c, beside := r.run("a", "sleep", fakeoci.Plan{}), r.run("b", "sleep", fakeoci.Plan{})
	v := &victim{Cgroup: c.cgroup.Load()}
	c.cgroup.Store(v)

	kills, _ := v.OOMKills()
	c.noteOOM(kills)
	r.exec(c, "e", "sleep")
	for _, c := range []*Container{c, beside} {
		if st, _ := c.Status(""); st.State != Running {
			t.Errorf("%s is %v", c.req.ID, st.State)
		}
	}
	r.kill(c, "e") // an OOM and the exit are queued at once, and so they are for the init
	r.wait(c, "e")
	r.kill(c, "")
	r.wait(c, "")
	r.expect(c, "create", "start", "exec-started:e", "exit:e=137", "exit=137")
	if n := hit.Load(); n != 4 {
		t.Errorf("there were %d panics", n)
	}
	if st, _ := beside.Status(""); st.State != Running {
		t.Errorf("the container beside it is %v", st.State)
	}
}
