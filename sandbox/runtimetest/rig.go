// SPDX-License-Identifier: Apache-2.0

package runtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	"berth/sandbox"
)

// Host is what the containers of one test run on.
type Host struct {
	Supervisor *process.Supervisor
	Runtime    func(o configs.Runtime, bundle string) (sandbox.Runtime, error)
	// Program is a static busybox.
	Program string
}

// limit is how long a test waits for what must happen; it turns a hang into a
// failure. An emulated guest takes a second where this kernel takes ten
// milliseconds.
const limit = 2 * time.Minute

// Pod is a pod, and what it told.
type Pod struct {
	*testing.T
	host   Host
	pod    *sandbox.Pod
	dir    string
	rootfs string

	mu   sync.Mutex
	told []sandbox.Event
}

func NewPod(t *testing.T, host Host) *Pod {
	r := &Pod{T: t, host: host, dir: shortDir(t)}
	r.rootfs = filepath.Join(r.dir, "rootfs")
	for _, d := range []string{"bin", "proc", "dev", "tmp", "sys"} {
		r.must(os.MkdirAll(filepath.Join(r.rootfs, d), 0o755))
	}
	program, err := os.ReadFile(host.Program)
	r.must(err)
	r.must(os.WriteFile(filepath.Join(r.rootfs, "bin/busybox"), program, 0o755))
	for _, name := range []string{"sh", "cat", "sleep", "tail", "stty", "wc", "head", "uname", "true", "kill", "md5sum"} {
		r.must(os.Symlink("busybox", filepath.Join(r.rootfs, "bin", name)))
	}
	r.pod = sandbox.New(sandbox.Config{
		Namespace: "test", Supervisor: host.Supervisor, Runtime: host.Runtime,
		Hooks: hooks.Chain{hooks.Sanity{}}, Sink: r.hear, RunDir: r.dir,
	})
	t.Cleanup(func() { r.must(r.pod.Close(context.Background())) })
	return r
}

// shortDir is a directory whose sockets have names that the kernel takes.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "rt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (r *Pod) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *Pod) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	r.Cleanup(cancel)
	return ctx
}

// Box is one container.
type Box struct {
	*Pod
	ID     string
	bundle string
	stdio  process.Stdio
	spec   *specs.Spec
	mounts []sandbox.Mount // of the root file system, as a snapshotter would have them
	C      *sandbox.Container
}

// Box makes a bundle that runs a script of the shell.
func (r *Pod) Box(id, script string) *Box {
	r.Helper()
	b := &Box{Pod: r, ID: fmt.Sprintf("berth-rt-%d-%s", os.Getpid(), id)}
	b.bundle = filepath.Join(r.dir, id)
	r.must(os.Mkdir(b.bundle, 0o700))
	b.spec = &specs.Spec{
		Version: "1.2.0",
		Root:    &specs.Root{Path: r.rootfs, Readonly: true},
		Process: shell(script),
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}},
			{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + b.ID,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
		},
	}
	return b
}

func shell(script string) *specs.Process {
	return &specs.Process{Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}}
}

// TryCreate makes the container.
func (b *Box) TryCreate() error {
	b.Helper()
	return b.TryCreateWithin(b.ctx())
}

// TryCreateWithin is TryCreate by a caller who may give up.
func (b *Box) TryCreateWithin(ctx context.Context) error {
	b.Helper()
	b.spec.Process.Terminal = b.stdio.Terminal
	config, err := json.Marshal(b.spec)
	b.must(err)
	b.must(os.WriteFile(filepath.Join(b.bundle, "config.json"), config, 0o600))
	_, err = b.pod.Create(ctx, &sandbox.CreateRequest{ID: b.ID, Bundle: b.bundle, Stdio: b.stdio, Rootfs: b.mounts})
	if err != nil {
		return err
	}
	b.C, err = b.pod.Container(b.ID)
	b.must(err)
	b.Cleanup(b.remove)
	return nil
}

func (b *Box) Create() *Box {
	b.Helper()
	b.must(b.TryCreate())
	return b
}

func (b *Box) Run() *Box {
	b.Helper()
	b.Create()
	_, err := b.C.Start(b.ctx(), "")
	b.must(err)
	return b
}

// remove ends and deletes what a failed test has left.
func (b *Box) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if _, err := b.pod.Container(b.ID); err != nil {
		return
	}
	_ = b.C.Kill(ctx, "", unix.SIGKILL, true)
	_, _ = b.C.Wait(ctx, "")
	if _, err := b.C.Delete(ctx, ""); err != nil {
		b.Errorf("delete %s: %v", b.ID, err)
	}
}

func (b *Box) Wait(exec string) process.Exit {
	b.Helper()
	exit, err := b.C.Wait(b.ctx(), exec)
	b.must(err)
	return exit
}

func (b *Box) Delete(exec string) {
	b.Helper()
	_, err := b.C.Delete(b.ctx(), exec)
	b.must(err)
}

// Exec starts a script in the container.
func (b *Box) Exec(id, script string, stdio process.Stdio) {
	b.Helper()
	p := shell(script)
	p.Terminal = stdio.Terminal
	spec, err := json.Marshal(p)
	b.must(err)
	b.must(b.C.Exec(sandbox.ExecRequest{ID: id, Process: spec, Stdio: stdio}))
	_, err = b.C.Start(b.ctx(), id)
	b.must(err)
}

func (r *Pod) hear(e sandbox.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, e)
}

var kinds = map[sandbox.Kind]string{
	sandbox.TaskCreate: "create", sandbox.TaskStart: "start", sandbox.TaskExit: "exit", sandbox.TaskDelete: "delete",
	sandbox.TaskOOM: "oom", sandbox.TaskExecAdded: "added", sandbox.TaskExecStarted: "started",
	sandbox.TaskPaused: "paused", sandbox.TaskResumed: "resumed",
}

// Story is what was told of the container, a word an event.
func (b *Box) Story() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, e := range b.told {
		if e.Container != b.ID {
			continue
		}
		word := kinds[e.Kind]
		if e.Exec != "" {
			word += ":" + e.Exec
		}
		if e.Kind == sandbox.TaskExit {
			word += "=" + strconv.Itoa(e.Exit.Status)
		}
		out = append(out, word)
	}
	return out
}

func (b *Box) Expect(want ...string) {
	b.Helper()
	if got := b.Story(); !slices.Equal(got, want) {
		b.Errorf("told:\n  %s\nwant:\n  %s", strings.Join(got, " "), strings.Join(want, " "))
	}
}
