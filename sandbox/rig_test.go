// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/process/oci"
	"berth/test/fakeoci"
)

// limit is how long a test waits for what must happen. Nothing is expected
// to take it: it is there to turn a hang into a failure.
const limit = 60 * time.Second

// rig is a pod over the fake runtime.
type rig struct {
	*testing.T
	pod  *Pod
	sup  *process.Supervisor
	root string // of the runtime
	dir  string
	// wrap, if set, puts something around the runtime of each container.
	wrap func(Runtime) Runtime

	mu      sync.Mutex
	events  []Event
	changed chan struct{} // closed and replaced with every event
}

func newRig(t *testing.T, more ...hooks.Hook) *rig {
	r := &rig{T: t, sup: process.NewSupervisor(), dir: t.TempDir(), changed: make(chan struct{})}
	r.root = filepath.Join(r.dir, "root")
	if err := r.sup.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	r.pod = New(Config{
		Namespace: "test", Supervisor: r.sup, Runtime: r.runtime,
		Hooks: append(hooks.Chain{hooks.Sanity{}}, more...), Sink: r.record, RunDir: r.dir,
	})
	t.Cleanup(r.close)
	return r
}

func (r *rig) runtime(_ configs.Runtime, bundle string) (Runtime, error) {
	cli := &oci.CLI{Binary: fakeRuntime, Root: r.root, Dir: bundle, Supervisor: r.sup}
	if r.wrap != nil {
		return r.wrap(cli), nil
	}
	return cli, nil
}

// close deletes what the test left and checks that nothing is left then.
func (r *rig) close() {
	r.pod.mu.Lock()
	var left []*Container
	for _, c := range r.pod.containers {
		left = append(left, c)
	}
	r.pod.mu.Unlock()
	for _, c := range left {
		r.remove(c)
	}
	if err := r.pod.Close(context.Background()); err != nil {
		r.Error(err)
	}
	r.sup.Close()
	for _, hierarchy := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} { // v1, v2
		if dirs, _ := filepath.Glob(hierarchy + r.cgroup("*")); len(dirs) > 0 {
			r.Errorf("cgroups are left: %v", dirs)
		}
	}
}

func (r *rig) remove(c *Container) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := ignoreNotFound(c.Kill(ctx, "", unix.SIGKILL, false)); err != nil {
		r.Errorf("kill %s: %v", c.req.ID, err)
	}
	if _, err := c.Wait(ctx, ""); err != nil {
		r.Errorf("wait for %s: %v", c.req.ID, err)
	}
	if _, err := c.Delete(ctx, ""); err != nil {
		r.Errorf("delete %s: %v", c.req.ID, err)
	}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	r.Cleanup(cancel)
	return ctx
}

// cgroup is the path of a container's cgroup, unique to this process and test.
func (r *rig) cgroup(id string) string {
	return fmt.Sprintf("/berth-sandbox-%d-%s-%s", os.Getpid(), strings.ReplaceAll(r.Name(), "/", "-"), id)
}

// bundle makes a bundle that runs a script of the fake runtime.
func (r *rig) bundle(id, script string, plan fakeoci.Plan) string {
	r.Helper()
	dir := filepath.Join(r.dir, id)
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		r.Fatal(err)
	}
	spec := specs.Spec{
		Version: "1.2.0",
		Root:    &specs.Root{Path: "rootfs"},
		Process: fakeProcess(script),
		Linux:   &specs.Linux{CgroupsPath: r.cgroup(id)},
	}
	data, err := json.Marshal(spec)
	if err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		r.Fatal(err)
	}
	plan.Write(r, dir)
	return dir
}

func fakeProcess(script string) *specs.Process {
	return &specs.Process{Cwd: "/", Args: append([]string{"fake"}, strings.Fields(script)...)}
}

func (r *rig) create(id, script string, plan fakeoci.Plan) *Container {
	r.Helper()
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: id, Bundle: r.bundle(id, script, plan)}); err != nil {
		r.Fatalf("create %s: %v", id, err)
	}
	c, err := r.pod.Container(id)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

func (r *rig) run(id, script string, plan fakeoci.Plan) *Container {
	r.Helper()
	c := r.create(id, script, plan)
	if _, err := c.Start(r.ctx(), ""); err != nil {
		r.Fatalf("start %s: %v", id, err)
	}
	return c
}

func (r *rig) addExec(c *Container, id, script string) {
	r.Helper()
	data, err := json.Marshal(fakeProcess(script))
	if err != nil {
		r.Fatal(err)
	}
	if err := c.Exec(ExecRequest{ID: id, Process: data}); err != nil {
		r.Fatalf("exec %s: %v", id, err)
	}
}

func (r *rig) exec(c *Container, id, script string) {
	r.Helper()
	r.addExec(c, id, script)
	if _, err := c.Start(r.ctx(), id); err != nil {
		r.Fatalf("start exec %s: %v", id, err)
	}
}

func (r *rig) wait(c *Container, exec string) process.Exit {
	r.Helper()
	exit, err := c.Wait(r.ctx(), exec)
	if err != nil {
		r.Fatalf("wait for %q: %v", exec, err)
	}
	return exit
}

func (r *rig) kill(c *Container, exec string) {
	r.Helper()
	if err := c.Kill(r.ctx(), exec, unix.SIGKILL, false); err != nil {
		r.Fatal(err)
	}
}

// record is the pod's sink.
func (r *rig) record(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

// story is what was told of a container, a word an event.
func (r *rig) story(c *Container) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		if e.Container == c.req.ID {
			out = append(out, e.word())
		}
	}
	return out
}

func (e Event) word() string {
	name := [...]string{"", "create", "start", "exit", "delete", "oom", "exec-added", "exec-started", "paused", "resumed", "checkpointed", "hook"}[e.Kind]
	if e.Exec != "" {
		name += ":" + e.Exec
	}
	if e.Kind == TaskExit {
		name += "=" + strconv.Itoa(e.Exit.Status)
	}
	if e.Kind == HookEvent {
		name += "=" + e.Hook.Topic
	}
	return name
}

// await returns once the story of a container satisfies a condition.
func (r *rig) await(c *Container, what string, enough func([]string) bool) {
	r.Helper()
	timeout := time.After(limit)
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		story := r.story(c)
		if enough(story) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			r.Fatalf("no %s; told: %v", what, story)
		}
	}
}

func (r *rig) expect(c *Container, want ...string) {
	r.Helper()
	if got := r.story(c); strings.Join(got, " ") != strings.Join(want, " ") {
		r.Errorf("told:\n  %v\nwant:\n  %v", got, want)
	}
}

// fifo makes a FIFO for a plan to wait at or to report to.
func (r *rig) fifo(name string) string {
	r.Helper()
	path := filepath.Join(r.dir, name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		r.Fatal(err)
	}
	return path
}

// reading opens a FIFO for reading to the end of the test, as a client does before it
// asks for a process.
func (r *rig) reading(fifo string) string {
	r.Helper()
	fd, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = unix.Close(fd) })
	return fifo
}

// await a byte in a FIFO.
func (r *rig) reached(fifo string) {
	r.Helper()
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(limit))
	if _, err := f.Read(make([]byte, 1)); err != nil {
		r.Fatalf("%s was not reached: %v", fifo, err)
	}
}

// release lets go what waits at a FIFO. The descriptor stays open to the end
// of the test, so that the byte is not lost.
func (r *rig) release(fifo string) {
	r.Helper()
	f, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { f.Close() })
	if _, err := f.Write([]byte{1}); err != nil {
		r.Fatal(err)
	}
}
