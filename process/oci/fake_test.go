// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"berth/process"
	"berth/test/fakeoci"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func lastCall(t *testing.T, b *box, verb string) fakeoci.Call {
	t.Helper()
	for _, c := range slices.Backward(fakeoci.Calls(t, b.bundle)) {
		if c.Verb == verb {
			return c
		}
	}
	t.Fatalf("%s was not called", verb)
	return fakeoci.Call{}
}

// Nothing of the shim's or of the container's environment reaches the runtime, and what
// is for the runtime alone, no hook, to which it hands on its own.
func TestEnvironment(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/notify")
	b := newBox(t, fake, "fake", "sleep")
	b.create()
	if c := lastCall(t, b, "create"); !slices.Equal(c.Env, []string{"PATH=" + DefaultPath}) || c.Dir != b.bundle {
		t.Errorf("environment %q, directory %s", c.Env, c.Dir)
	}
	if _, err := b.cli.State(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	if c := lastCall(t, b, "state"); !slices.Equal(c.Env, []string{"PATH=" + DefaultPath, "GOMAXPROCS=1"}) {
		t.Errorf("environment %q of a call without hooks", c.Env)
	}
	b.cli.Env = []string{"PATH=/bin", "XDG_RUNTIME_DIR=/run/user/0"}
	if _, err := b.cli.State(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	if c := lastCall(t, b, "state"); !slices.Equal(c.Env, b.cli.Env) {
		t.Errorf("environment %q", c.Env)
	}
}

func TestArguments(t *testing.T) {
	b := newBox(t, fake, "fake", "sleep")
	b.cli.SystemdCgroup = true
	if _, err := b.cli.Create(t.Context(), &CreateRequest{ID: b.id, Bundle: b.bundle, NoPivotRoot: true, NoNewKeyring: true}); err != nil {
		t.Fatal(err)
	}
	has := func(verb string, words ...string) {
		t.Helper()
		got := strings.Join(lastCall(t, b, verb).Args, " ") + " "
		for _, w := range words {
			if !strings.Contains(got, w+" ") {
				t.Errorf("%q is not among the arguments %q", w, got)
			}
		}
	}
	has("create", "--root "+b.cli.Root, "--systemd-cgroup", "--log-format json", "--no-pivot", "--no-new-keyring",
		"--bundle "+b.bundle, "--pid-file "+b.bundle+"/init.pid", b.id)
	if err := b.cli.Start(t.Context(), b.id); err != nil {
		t.Fatal(err)
	}
	criu := CRIU{
		ImagePath: filepath.Join(t.TempDir(), "image"), WorkPath: t.TempDir(), ParentPath: "../parent", OpenTCP: true,
		ExternalUnixSockets: true, ShellJob: true, FileLocks: true, EmptyNamespaces: []string{"network", "ipc"}, CgroupsMode: "soft",
	}
	if err := b.cli.Checkpoint(t.Context(), &CheckpointRequest{ID: b.id, CRIU: criu}); err != nil {
		t.Fatal(err)
	}
	both := []string{"--image-path " + criu.ImagePath, "--work-path " + criu.WorkPath, "--tcp-established", "--ext-unix-sk",
		"--shell-job", "--file-locks", "--empty-ns network", "--empty-ns ipc", "--manage-cgroups-mode soft"}
	has("checkpoint", append(both, "--leave-running", "--parent-path ../parent")...)
	if err := b.cli.Checkpoint(t.Context(), &CheckpointRequest{ID: b.id, CRIU: criu, Exit: true}); err != nil {
		t.Fatal(err)
	}
	if c := lastCall(t, b, "checkpoint"); slices.Contains(c.Args, "--leave-running") {
		t.Errorf("arguments %q leave the container running", c.Args)
	}
	p, err := b.cli.Create(t.Context(), &CreateRequest{ID: b.id, Bundle: b.bundle, Restore: &RestoreRequest{CRIU: criu}})
	if err != nil {
		t.Fatal(err)
	}
	has("restore", append(both, "--detach", "--no-subreaper", b.id)...)
	if c := lastCall(t, b, "restore"); slices.Contains(c.Args, "--parent-path") {
		t.Errorf("arguments %q have what runc's restore does not take", c.Args)
	}
	if err := b.cli.Update(t.Context(), b.id, []byte(`{"pids":{"limit":5}}`)); err != nil {
		t.Fatal(err)
	}
	if c := lastCall(t, b, "update"); c.Stdin != `{"pids":{"limit":5}}` {
		t.Errorf("update was given %q", c.Stdin)
	}
	if err := b.cli.Delete(t.Context(), b.id, true); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	b.noScratch()
}

// A hung runtime is killed when the context ends, and the error says which verb and how long.
func TestContextEndsCall(t *testing.T) {
	for verb, call := range map[string]func(context.Context, *box) error{
		"create": func(ctx context.Context, b *box) error {
			_, err := b.cli.Create(ctx, &CreateRequest{ID: b.id, Bundle: b.bundle})
			return err
		},
		"kill":   func(ctx context.Context, b *box) error { return b.cli.Kill(ctx, b.id, unix.SIGTERM, false) },
		"delete": func(ctx context.Context, b *box) error { return b.cli.Delete(ctx, b.id, false) },
		"exec": func(ctx context.Context, b *box) error {
			_, err := b.cli.Exec(ctx, b.execRequest("e1", "fake", "sleep"))
			return err
		},
	} {
		t.Run(verb, func(t *testing.T) {
			b := newBox(t, fake, "fake", "sleep")
			if verb != "create" {
				b.running()
			}
			reached, got := b.fifo()
			b.verb(verb, fakeoci.Verb{Reached: reached, Hang: "before", Times: 1})
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() { result <- call(ctx, b) }()
			got()
			cancel()
			err := <-result
			if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "OCI runtime "+verb+" was killed after ") {
				t.Errorf("error %v", err)
			}
			if c := lastCall(t, b, verb); c.Phase != "begin" || unix.Kill(c.Pid, 0) != unix.ESRCH {
				t.Errorf("the runtime, process %d, is still there", c.Pid)
			}
			b.noScratch()
		})
	}
}

// Whatever the runtime has made when it is killed or when its answer is of no use, nothing of
// it is left, wherever in the tree of processes it is.
func TestNothingLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		do     fakeoci.Verb
		noPipe bool // the process has nothing that would give it away
	}{
		"killed":                       {fakeoci.Verb{Hang: "after"}, false},
		"killed, no pipe":              {fakeoci.Verb{Hang: "after"}, true},
		"killed, double fork, no pipe": {fakeoci.Verb{Hang: "after", DoubleFork: true}, true},
		"killed, no pid file, no pipe": {fakeoci.Verb{Hang: "after", PidFile: "none"}, true},
		"lost, no pid file":            {fakeoci.Verb{Hang: "after", PidFile: "none", DoubleFork: true}, false},
		"no pid file":                  {fakeoci.Verb{PidFile: "none"}, false},
		"garbage in pid file":          {fakeoci.Verb{PidFile: "garbage"}, false},
		"empty pid file":               {fakeoci.Verb{PidFile: "\n"}, false},
		"pid 1":                        {fakeoci.Verb{PidFile: "1"}, false},
		"negative pid":                 {fakeoci.Verb{PidFile: "-1"}, false},
	} {
		for _, verb := range []string{"create", "exec"} {
			t.Run(verb+", "+name, func(t *testing.T) {
				v := tc.do
				b := newBox(t, fake, "fake", "sleep")
				var init *process.Process
				if verb == "exec" {
					init = b.running()
				}
				var streams Stdio
				if !tc.noPipe {
					streams, _ = b.streams()
				}
				// A file that an earlier call left must not be taken for this call's.
				for _, stale := range []string{"init.pid", "e1.pid"} {
					if err := os.WriteFile(filepath.Join(b.bundle, stale), []byte("4194303"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				worked, got := b.fifo()
				if v.Hang != "" {
					v.Worked = worked
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b.verb(verb, v)
				var call func() error
				if verb == "exec" {
					r := b.execRequest("e1", "fake", "sleep")
					r.Streams = streams
					call = func() error { _, err := b.cli.Exec(ctx, r); return err }
				} else {
					call = func() error {
						_, err := b.cli.Create(ctx, &CreateRequest{ID: b.id, Bundle: b.bundle, Streams: streams})
						return err
					}
				}
				if v.Hang == "" {
					if err := call(); err == nil {
						t.Error("no error")
					}
				} else {
					result := make(chan error, 1)
					go func() { result <- call() }()
					got()
					cancel()
					if err := <-result; !errors.Is(err, context.Canceled) {
						t.Errorf("error %v", err)
					}
				}
				if init != nil {
					if err := init.Signal(unix.SIGKILL); err != nil {
						t.Fatalf("the init is gone: %v", err)
					}
					<-init.Done()
				}
				b.noMembers()
				if _, err := os.Stat(filepath.Join(b.cli.Root, b.id)); verb == "create" && err == nil {
					t.Error("the runtime still has the container")
				}
				b.noScratch()
			})
		}
	}
}

// The init is killed even if the runtime cannot delete the container, and the error says so.
func TestUndoWithoutDelete(t *testing.T) {
	b := newBox(t, fake, "fake", "sleep")
	streams, _ := b.streams()
	b.plan(fakeoci.Plan{Verbs: map[string]fakeoci.Verb{
		"create": {PidFile: "garbage"},
		"delete": {Fail: &fakeoci.Fail{Message: "cannot do it"}},
	}})
	_, err := b.cli.Create(t.Context(), &CreateRequest{ID: b.id, Bundle: b.bundle, Streams: streams})
	if err == nil || !strings.Contains(err.Error(), `"garbage"`) || !strings.Contains(err.Error(), "undo create: OCI runtime delete failed: cannot do it") {
		t.Errorf("error %v", err)
	}
	b.noMembers()
}

// What a create found in place is not undone.
func TestSecondCreateSparesTheFirst(t *testing.T) {
	b := newBox(t, fake, "fake", "sleep")
	p := b.running()
	reached, got := b.fifo()
	b.verb("create", fakeoci.Verb{Reached: reached, Hang: "before"})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := b.cli.Create(ctx, &CreateRequest{ID: b.id, Bundle: b.bundle})
		result <- err
	}()
	got()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := fakeoci.Begun(fakeoci.Calls(t, b.bundle), "delete"); n != 0 {
		t.Errorf("delete was called %d times", n)
	}
	select {
	case <-p.Done():
		t.Error("the container is gone")
	default:
	}
}

// An init or an exec that is a zombie before the runtime returns has its true exit status.
func TestDeadBeforeReturn(t *testing.T) {
	code := 5
	for name, do := range map[string]fakeoci.Verb{
		"create":             {InitExit: &code},
		"create double fork": {InitExit: &code, DoubleFork: true},
		"exec":               {UntilDead: true},
		"exec double fork":   {UntilDead: true, DoubleFork: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, fake, "fake", "sleep")
			verb, _, _ := strings.Cut(name, " ")
			var p *process.Process
			if verb == "create" {
				b.verb(verb, do)
				p = b.create()
			} else {
				b.running()
				b.verb(verb, do)
				var err error
				if p, err = b.cli.Exec(t.Context(), b.execRequest("e1", "fake", "exit", "5")); err != nil {
					t.Fatal(err)
				}
			}
			<-p.Done()
			if e := p.Exit(); e.Status != code || !e.Known {
				t.Errorf("exit %+v, want a known %d", e, code)
			}
		})
	}
}

// Calls side by side get their own messages (containerd #8144).
func TestOwnMessage(t *testing.T) {
	b := newBox(t, fake, "fake", "sleep")
	b.running()
	const n = 16
	verbs := map[string]fakeoci.Verb{}
	for i := range n {
		verbs[fmt.Sprintf("exec:e%d", i)] = fakeoci.Verb{Fail: &fakeoci.Fail{Message: fmt.Sprintf("reason %d.", i), ExitCode: 255}}
	}
	b.plan(fakeoci.Plan{Verbs: verbs})
	var wg sync.WaitGroup
	for i := range n {
		r := b.execRequest(fmt.Sprintf("e%d", i), "fake")
		wg.Go(func() {
			_, err := b.cli.Exec(t.Context(), r)
			if want := fmt.Sprintf("OCI runtime exec failed: reason %d.", i); err == nil || err.Error() != want {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
	wg.Wait()
	b.noScratch()
}

func TestMessages(t *testing.T) {
	const big = 1 << 20
	for name, tc := range map[string]struct {
		do   fakeoci.Verb
		want string
	}{
		"nothing said":   {fakeoci.Verb{Fail: &fakeoci.Fail{Silent: true, ExitCode: 9}}, "OCI runtime start failed: exit status 9 and no message"},
		"text log":       {fakeoci.Verb{Fail: &fakeoci.Fail{RawLog: "cannot do it"}}, "OCI runtime start failed: cannot do it"},
		"stderr is all":  {fakeoci.Verb{Fail: &fakeoci.Fail{RawLog: "\n", Message: "from stderr"}}, "OCI runtime start failed: from stderr"},
		"rubbish before": {fakeoci.Verb{Stderr: big, Fail: &fakeoci.Fail{Message: "the reason"}}, "OCI runtime start failed: the reason"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, fake, "fake", "sleep")
			b.create()
			b.verb("start", tc.do)
			if err := b.cli.Start(t.Context(), b.id); err == nil || err.Error() != tc.want {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("rubbish alone", func(t *testing.T) {
		b := newBox(t, fake, "fake", "sleep")
		b.create()
		b.verb("start", fakeoci.Verb{Stderr: big, Fail: &fakeoci.Fail{Silent: true}})
		if err := b.cli.Start(t.Context(), b.id); err == nil || len(err.Error()) > maxMessage+100 {
			t.Errorf("error of %d bytes", len(fmt.Sprint(err)))
		}
	})
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tool")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find("tool", dir); !errdefs.IsNotFound(err) {
		t.Errorf("a file that is not executable: %v", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{"tool": "relative:/nowhere:" + dir, path: ""} {
		if got, err := Find(name, in); got != path {
			t.Errorf("%s in %q: %q, %v", name, in, got, err)
		}
	}
	if _, err := Find("./tool", dir); !errdefs.IsNotFound(err) {
		t.Errorf("a relative path: %v", err)
	}
}
