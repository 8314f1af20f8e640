// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/fakeoci"
)

// glutton is a program of the host that takes all the memory that it gets:
// there is no end of the line that it waits for.
var glutton = []string{"/usr/bin/tail", "/dev/zero"}

// program makes a container that runs a program of the host.
func (r *rig) program(id string, args ...string) *Container {
	r.Helper()
	bundle := r.bundle(id, "", fakeoci.Plan{})
	path := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		r.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		r.Fatal(err)
	}
	spec.Process.Args = args
	if data, err = json.Marshal(spec); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		r.Fatal(err)
	}
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: id, Bundle: bundle}); err != nil {
		r.Fatal(err)
	}
	c, err := r.pod.Container(id)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// scant limits the memory of a container that has not started yet.
func (r *rig) scant(c *Container) {
	r.Helper()
	file := filepath.Join("/sys/fs/cgroup/memory", r.cgroup(c.req.ID), "memory.limit_in_bytes")
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join("/sys/fs/cgroup", r.cgroup(c.req.ID), "memory.max") // v2
	}
	if _, err := os.Stat(file); err != nil {
		r.Skipf("no memory controller: %v", err)
	}
	if err := os.WriteFile(file, []byte(fmt.Sprint(32<<20)), 0); err != nil {
		r.Fatal(err)
	}
}

// unwatched ends the watch, so that only an exit makes the counter be read:
// the watch mostly comes first, but need not.
func (r *rig) unwatched(c *Container) {
	r.Helper()
	if c.oom == nil {
		r.Fatal("OOM kills are not watched")
	}
	if err := c.oom.Close(); err != nil {
		r.Fatal(err)
	}
}

// runs returns once the init runs its own program. In the middle of execve(2)
// by a thread that is not the first, a process looks like a zombie, and the
// fake runtime takes its container for a stopped one.
func (r *rig) runs(c *Container, program string) {
	r.Helper()
	r.until("the init runs "+program, func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.init.os.Pid()))
		return err != nil || string(comm) == program+"\n"
	})
}

func TestOOMPrecedesExitOfInit(t *testing.T) {
	for _, watched := range []bool{true, false} {
		t.Run(fmt.Sprintf("watched=%v", watched), func(t *testing.T) {
			r := newRig(t)
			c := r.program("a", glutton...)
			r.scant(c)
			if !watched {
				r.unwatched(c)
			}
			if _, err := c.Start(r.ctx(), ""); err != nil {
				t.Fatal(err)
			}
			r.wait(c, "")
			r.remove(c)
			r.expect(c, "create", "start", "oom", "exit=137", "delete")
		})
	}
}

func TestOOMPrecedesExitOfExec(t *testing.T) {
	for _, watched := range []bool{true, false} {
		t.Run(fmt.Sprintf("watched=%v", watched), func(t *testing.T) {
			r := newRig(t)
			c := r.program("a", "/bin/sleep", "infinity")
			r.scant(c)
			if !watched {
				r.unwatched(c)
			}
			if _, err := c.Start(r.ctx(), ""); err != nil {
				t.Fatal(err)
			}
			r.runs(c, "sleep")
			data, err := json.Marshal(specs.Process{Cwd: "/", Args: glutton})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Exec(ExecRequest{ID: "e", Process: data}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Start(r.ctx(), "e"); err != nil {
				t.Fatal(err)
			}
			r.wait(c, "e")
			r.kill(c, "")
			r.wait(c, "")
			r.expect(c, "create", "start", "exec-added:e", "exec-started:e", "oom", "exit:e=137", "exit=137")
		})
	}
}

// A kill among the init's children is told while the init lives on, and not
// again when the init is killed.
func TestOOMWhileInitLives(t *testing.T) {
	r := newRig(t)
	c := r.program("a", "/bin/sh", "-c", "/usr/bin/tail /dev/zero; exec /bin/sleep infinity")
	r.scant(c)
	if _, err := c.Start(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	r.await(c, "OOM", func(story []string) bool { return slices.Contains(story, "oom") })
	if st, err := c.Status(""); err != nil || st.State != Running {
		t.Errorf("status %+v, %v", st, err)
	}
	r.kill(c, "")
	r.wait(c, "")
	r.expect(c, "create", "start", "oom", "exit=137")
}

// Nothing follows an init's exit, whenever the watch wakes up.
func TestNoOOMAfterExit(t *testing.T) {
	r := newRig(t)
	c := r.run("a", "exit 1", fakeoci.Plan{})
	r.wait(c, "")
	c.noteOOM(1)
	r.expect(c, "create", "start", "exit=1")
}

// The cgroup may be gone before the exit is told: systemd removes an empty one.
func TestOOMOfARemovedCgroup(t *testing.T) {
	r := newRig(t)
	c := r.program("a", "/bin/sh", "-c", "read x < "+r.fifo("go")+"; exec /usr/bin/tail /dev/zero")
	r.scant(c)
	r.unwatched(c)
	if _, err := c.Start(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	r.runs(c, "sh")
	r.exec(c, "e", "ignore ; sleep")
	e := c.execs["e"].os
	r.leave(e.Pid())
	mortal := r.immortal(e.Pid()) // keeps the exit waiting
	w, err := os.OpenFile(filepath.Join(r.dir, "go"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	r.until("the exec is being killed", func() bool { return dying(e.Pid()) })
	if err := os.Remove(filepath.Join("/sys/fs/cgroup/memory", r.cgroup("a"))); err != nil {
		t.Fatal(err)
	}
	mortal()
	r.wait(c, "")
	r.expect(c, "create", "start", "exec-added:e", "exec-started:e", "oom", "exit:e=137", "exit=137")
}
