// SPDX-License-Identifier: Apache-2.0

package native

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process"
)

// inventory prints what a process was given: its descriptors, its environment,
// its working directory, its umask.
const inventory = `ls /proc/self/fd; echo --; cat /proc/$$/environ; echo; echo --; pwd; umask`

// The process that does the calls has secrets: descriptors that programs
// inherit, an environment, a working directory and a umask of its own. Nothing
// of that is in a container.
func TestNothingLeaks(t *testing.T) {
	b := newBox(t, inventory+"; sleep 1000")
	b.spec.Process.Env = append(b.spec.Process.Env, "OF=init")
	t.Setenv("SECRET", "leaked")
	fd, err := unix.Open("/etc", unix.O_RDONLY|unix.O_DIRECTORY, 0) // without O_CLOEXEC
	b.must(err)
	defer func() { _ = unix.Close(fd) }()
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	t.Chdir("/etc")

	out := newOutput(t)
	p := b.run(out)
	b.until("the init has said what it has", func() bool { return strings.Count(out.text(), "\n") > 8 })
	b.wantInventory("init", out.text(), "OF=init", "0022") // the library sets it
	spec := shell(inventory)
	spec.Env = append(spec.Env, "OF=exec")
	out = newOutput(t)
	e, err := b.exec(spec, out)
	b.must(err)
	b.status(e)
	b.wantInventory("exec", out.text(), "OF=exec", "0077") // inherited, as with the command line
	b.kill(p)

	if wd, err := os.Getwd(); err != nil || wd != "/etc" {
		t.Errorf("the caller's working directory is %s, %v", wd, err)
	}
}

func (b *box) wantInventory(who, text, env, umask string) {
	b.Helper()
	parts := strings.Split(text, "--\n")
	if len(parts) != 3 {
		b.Fatalf("%s said %q", who, text)
	}
	// 3 is the directory that ls reads.
	if fds := strings.Fields(parts[0]); !slices.Equal(fds, []string{"0", "1", "2", "3"}) {
		b.Errorf("%s has descriptors %v", who, fds)
	}
	environ := strings.Split(strings.Trim(parts[1], "\x00\n"), "\x00")
	slices.Sort(environ)
	want := []string{"HOME=/", env, "PATH=/bin"} // HOME is the library's own addition
	if slices.Sort(want); !slices.Equal(environ, want) {
		b.Errorf("%s has the environment %q, want %q", who, environ, want)
	}
	if rest := strings.Fields(parts[2]); !slices.Equal(rest, []string{"/", umask}) {
		b.Errorf("%s has working directory and umask %q, want / and %s", who, rest, umask)
	}
}

// began is what this process had before the library was called, of what threads
// may come to differ in. TestMain sets it.
var began = map[string]string{}

var beganCPUs string

func noteBeginning() {
	for _, what := range []string{"ns/mnt", "ns/net", "ns/pid_for_children", "ns/user", "ns/ipc", "ns/uts", "cwd", "root"} {
		began[what], _ = os.Readlink("/proc/self/" + what)
	}
	beganCPUs = allowedCPUs("/proc/self")
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &beganMemlock); err != nil {
		panic(err)
	}
}

var beganMemlock unix.Rlimit

// A container inherits the limit of locked memory that this program began with,
// while another one is made and afterwards: the library raises it for itself to load
// the program of a cgroup's devices (v2).
func TestMemlockIsInherited(t *testing.T) {
	first := newBox(t, "sleep 1000")
	other := first.another()
	end := first.createSlowly("") // its cgroup has its program
	other.inheritsMemlock()
	end()
	first.must(first.driver.Delete(t.Context(), first.id, true))
	first.spec.Hooks = nil
	first.inheritsMemlock()
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &now); err != nil || now != beganMemlock {
		t.Errorf("this program may lock %v, %v; it began with %v", now, err, beganMemlock)
	}
}

// While the library sets devices with a raised limit nothing is begun that would inherit
// it, nobody else sets any, and then the limit is what it was.
func TestMemlockIsOurs(t *testing.T) {
	limit := func() (l unix.Rlimit) {
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
			t.Error(err)
		}
		return l
	}
	raised := unix.Rlimit{Cur: beganMemlock.Cur / 2, Max: beganMemlock.Max} // that this is lower makes no difference
	var inside atomic.Int32
	set := keepingMemlock(func(path string, _ *cgroups.Resources) error {
		if n := inside.Add(1); n != 1 {
			t.Errorf("%d set devices", n)
		}
		defer inside.Add(-1)
		if l := limit(); l != beganMemlock {
			t.Errorf("it may lock %v at first", l)
		}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &raised); err != nil {
			t.Error(err)
		}
		runtime.Gosched()               // to whoever does not wait
		if syscall.ForkLock.TryLock() { // as whoever forks does
			t.Error("a process can be begun meanwhile")
			syscall.ForkLock.Unlock()
		}
		return errors.New(path)
	})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if err := set("a test's", nil); err == nil || err.Error() != "a test's" {
					t.Errorf("the error is %v", err)
				}
			}
		})
	}
	all.Wait()
	if l := limit(); l != beganMemlock {
		t.Errorf("it may lock %v in the end, and began with %v", l, beganMemlock)
	}
}

func (b *box) inheritsMemlock() {
	b.Helper()
	hook := filepath.Join(b.TempDir(), "limit")
	b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{
		{Path: "/bin/sh", Args: []string{"sh", "-c", "grep locked /proc/self/limits > " + hook}},
	}}
	init := b.run(nil)
	ours, err := os.ReadFile("/proc/self/limits")
	b.must(err)
	if limit, err := os.ReadFile(hook); err != nil || len(limit) == 0 || !bytes.Contains(ours, limit) {
		b.Errorf("a hook has %q, %v; this program's limits are\n%s", limit, err, ours)
	}
	e, err := b.exec(shell("sleep 1000"), nil)
	b.must(err)
	for who, p := range map[string]*process.Process{"init": init, "exec": e} {
		var limit unix.Rlimit
		if err := unix.Prlimit(p.Pid(), unix.RLIMIT_MEMLOCK, nil, &limit); err != nil || limit != beganMemlock {
			b.Errorf("the %s may lock %v, %v; this program could lock %v", who, limit, err, beganMemlock)
		}
	}
	b.kill(e)
	b.kill(init)
	b.must(b.driver.Delete(b.Context(), b.id, false))
}

// What the library does to threads does not stay: after many calls those that
// there are have the namespaces, the working directory and the CPUs that the
// process began with, and they are no more than before.
func TestThreadsStayClean(t *testing.T) {
	b := newBox(t, "sleep 1000")
	p := b.run(nil)
	for range 20 {
		e, err := b.exec(shell("true"), nil)
		b.must(err)
		b.status(e)
	}
	b.kill(p)
	b.must(b.driver.Delete(t.Context(), b.id, false))
	for what, want := range began {
		if now, err := os.Readlink("/proc/self/" + what); err != nil || now != want {
			t.Errorf("%s of this process is %s, %v; it was %s", what, now, err, want)
		}
		b.until(what+" of all threads is that of the process", func() bool {
			tasks, err := os.ReadDir("/proc/self/task")
			b.must(err)
			for _, task := range tasks {
				got, err := os.Readlink("/proc/self/task/" + task.Name() + "/" + what)
				if err == nil && got != want {
					return false
				}
			}
			return len(tasks) < 20
		})
	}
	b.until("all threads have the CPUs of the process", func() bool {
		tasks, err := os.ReadDir("/proc/self/task")
		b.must(err)
		return !slices.ContainsFunc(tasks, func(task os.DirEntry) bool {
			got := allowedCPUs("/proc/self/task/" + task.Name())
			return got != "" && got != beganCPUs
		})
	})
}

// allowedCPUs is empty for a thread that has ended.
func allowedCPUs(dir string) string {
	status, _ := os.ReadFile(dir + "/status")
	for line := range strings.Lines(string(status)) {
		if cpus, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
			return strings.TrimSpace(cpus)
		}
	}
	return ""
}
