// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"errors"
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

	"berth/process"
	"berth/process/oci"
)

// A panic fails its call, and no other.
func TestPanic(t *testing.T) {
	sup := process.NewSupervisor()
	defer sup.Close()
	d := &Driver{Root: t.TempDir(), Supervisor: sup}
	err := d.do(t.Context(), "create", "", func(*call) error { panic("of the library") })
	if err == nil || !strings.Contains(err.Error(), "OCI runtime create failed: the container library panics: of the library") {
		t.Errorf("error %v", err)
	}
	if err := d.do(t.Context(), "create", "", func(*call) error { return nil }); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// A call whose context ends ends too, its helpers with it, and leaves nothing.
func TestCancelledCreate(t *testing.T) {
	b := newBox(t, "sleep 1000")
	started := filepath.Join(t.TempDir(), "started")
	// The hook has a child, which is what hangs.
	b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{
		Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 1000 & echo $$ $! > " + started + ".tmp; mv " + started + ".tmp " + started + "; wait"},
	}}}
	b.write()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client has gone")
	failed := make(chan error, 1)
	go func() {
		_, err := b.driver.Create(ctx, &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
		failed <- err
	}()
	var shell, child int
	b.until("the hook runs", func() bool {
		data, err := os.ReadFile(started)
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(data), &shell, &child)
		return err == nil
	})
	cancel(gone)
	select {
	case err := <-failed:
		if !errors.Is(err, gone) || !strings.HasPrefix(err.Error(), "OCI runtime create was killed after ") {
			t.Errorf("error %v", err)
		}
	case <-time.After(limit):
		t.Fatal("the call does not end with its context")
	}
	b.until("the hook and its child are gone", func() bool {
		return errors.Is(unix.Kill(shell, 0), unix.ESRCH) && errors.Is(unix.Kill(child, 0), unix.ESRCH)
	})
	b.nothingLeft()
	b.spec.Hooks = nil
	b.kill(b.run(nil)) // it can be made again
}

// A call that has made what was asked for is waited for, though its context ends:
// what it has made is its caller's.
func TestMadeInTime(t *testing.T) {
	sup := process.NewSupervisor()
	defer sup.Close()
	d := &Driver{Root: t.TempDir(), Supervisor: sup}
	ctx, cancel := context.WithCancel(t.Context())
	last := time.NewTimer(killTimeout + killTimeout/4)
	made := false
	err := d.do(ctx, "create", "", func(c *call) error {
		if !c.commit() {
			return errors.New("it is not wanted")
		}
		cancel()
		<-last.C // longer than a call that is not wanted is waited for
		made = true
		return nil
	})
	if err != nil || !made {
		t.Errorf("error %v, made is %v", err, made)
	}
}

// A hook that leads a session of its own looks like the orphan of a container
// when it ends; its exit is the library's all the same.
func TestHookInOwnSession(t *testing.T) {
	b := newBox(t, "exit 0")
	b.spec.Hooks = &specs.Hooks{}
	for range 20 { // the supervisor and the library race for each of them
		b.spec.Hooks.CreateRuntime = append(b.spec.Hooks.CreateRuntime,
			specs.Hook{Path: "/usr/bin/setsid", Args: []string{"setsid", "/bin/sh", "-c", "exit 0"}})
	}
	b.status(b.run(nil))
	b.must(b.driver.Delete(t.Context(), b.id, false))
}

// While a create hangs in a hook, the zombies of another container are reaped,
// and the library still gets the exits of what it waits for.
func TestSlowCreatePilesUpNothing(t *testing.T) {
	slow := newBox(t, "sleep 1000")
	fifo := filepath.Join(t.TempDir(), "fifo")
	slow.must(unix.Mkfifo(fifo, 0o600))
	slow.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo > " + fifo + "; read x < " + fifo}}}}
	slow.write()
	made := make(chan error, 1)
	go func() {
		_, err := slow.driver.Create(t.Context(), &oci.CreateRequest{ID: slow.id, Bundle: slow.bundle})
		made <- err
	}()
	_, err := os.ReadFile(fifo) // the hook runs
	slow.must(err)

	// A container in the host's pid namespace, whose orphans become ours.
	b := slow.another()
	b.spec.Hooks = nil
	b.spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	b.spec.Mounts = b.spec.Mounts[1:]
	b.spec.Process = shell("for i in 1 2 3 4 5; do (sleep 0 & exec true); done; sleep 0.2; exit 3")
	p := b.run(nil)
	if status := b.status(p); status != 3 {
		t.Errorf("status %d", status)
	}
	b.until("there is no zombie", func() bool { return zombies(t) == 0 })
	b.must(b.driver.Delete(t.Context(), b.id, false))
	slow.must(os.WriteFile(fifo, []byte("\n"), 0))
	slow.must(<-made)
}

// What a hook leaves behind is reaped once the calls that it died under have
// ended, however many have begun since.
func TestOverlappingCallsPileUpNothing(t *testing.T) {
	first := newBox(t, "sleep 1000")
	b := first.another()
	endFirst := first.createSlowly("sh -c 'exit 0' &")
	first.until("the hook's child is a zombie", func() bool { return zombies(t) == 1 })
	first.awaitReaper()
	endSecond := b.createSlowly("")
	endFirst()
	first.until("there is no zombie", func() bool { return zombies(t) == 0 })
	endSecond()
}

// awaitReaper returns once the supervisor has seen every zombie that there is: it
// has reaped a younger orphan.
func (b *box) awaitReaper() {
	fifo := filepath.Join(b.TempDir(), "fifo")
	b.must(unix.Mkfifo(fifo, 0o600))
	_, err := b.sup.Start(&process.Command{Path: "/bin/sh", Args: []string{"-c", "setsid sh -c 'echo $$ > " + fifo + "' &"}, Env: os.Environ()})
	b.must(err)
	text, err := os.ReadFile(fifo)
	b.must(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	b.must(err)
	b.until("the orphan is reaped", func() bool { return unix.Kill(pid, 0) != nil })
}

// createSlowly begins a create and returns once its hook has done what it is to.
// The create ends with end.
func (b *box) createSlowly(script string) (end func()) {
	fifo := filepath.Join(b.TempDir(), "fifo")
	b.must(unix.Mkfifo(fifo, 0o600))
	b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{
		{Path: "/bin/sh", Args: []string{"sh", "-c", script}},
		{Path: "/bin/sh", Args: []string{"sh", "-c", "echo > " + fifo + "; read x < " + fifo}},
	}}
	b.write()
	made := make(chan error, 1)
	go func() {
		_, err := b.driver.Create(b.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
		made <- err
	}()
	_, err := os.ReadFile(fifo) // the hook runs
	b.must(err)
	return func() {
		b.must(os.WriteFile(fifo, []byte("\n"), 0))
		b.must(<-made)
	}
}

// zombies are the children of this process that have ended.
func zombies(t *testing.T) (n int) {
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		for _, pid := range children(task) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && strings.Contains(string(stat), ") Z ") {
				n++
			}
		}
	}
	return n
}

// Many calls at once, each exit its own.
func TestExecsAtOnce(t *testing.T) {
	b := newBox(t, "sleep 1000")
	p := b.run(nil)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 10 {
				want := (worker*10 + i) % 100
				e, err := b.exec(shell(fmt.Sprintf("exit %d", want)), nil)
				if err != nil {
					t.Error(err)
					return
				}
				<-e.Done()
				if exit := e.Exit(); exit.Status != want || !exit.Known {
					t.Errorf("exit %+v, want a known %d", exit, want)
				}
			}
		})
	}
	all.Wait()
	b.kill(p)
}

// Hooks that say nothing of their environment have that of the command line.
func TestHookEnvironment(t *testing.T) {
	t.Setenv("SECRET", "leaked")
	b := newBox(t, "exit 0")
	dir := t.TempDir()
	hook := func(name string) []specs.Hook {
		file := filepath.Join(dir, name)
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "tr '\\0' '\\n' < /proc/self/environ > " + file + "; pwd >> " + file}}}
	}
	b.spec.Hooks = &specs.Hooks{CreateRuntime: hook("create"), Poststop: hook("stop")}
	b.status(b.run(nil))
	b.must(b.driver.Delete(t.Context(), b.id, false))
	for _, name := range []string{"create", "stop"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if want := "PATH=" + oci.DefaultPath + "\n"; err != nil || !strings.Contains(string(data), want) || strings.Contains(string(data), "SECRET") {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if !strings.HasSuffix(strings.TrimSpace(string(data)), b.bundle) {
			t.Errorf("%s runs elsewhere than in the bundle: %q", name, data)
		}
	}
}
