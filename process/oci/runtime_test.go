// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"berth/process"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// onEach runs a test on the fake runtime and on the real ones that there are. BERTH_RUNC is
// the path of the runc that the lane promises; without it runc and crun come from PATH.
func onEach(t *testing.T, f func(t *testing.T, binary string)) {
	t.Run("fakeoci", func(t *testing.T) { f(t, fake) })
	t.Run("runc", func(t *testing.T) {
		path := os.Getenv("BERTH_RUNC")
		if path == "" {
			path = inPath(t, "runc")
		}
		needRoot(t)
		f(t, path)
	})
	t.Run("crun", func(t *testing.T) {
		path := inPath(t, "crun")
		needRoot(t)
		if data, err := os.ReadFile("/sys/fs/cgroup/unified/cgroup.controllers"); err == nil && len(data) > 1 {
			t.Skip("no cgroup set-up that crun takes: this is hybrid with controllers in v2")
		}
		f(t, path)
	})
}

func inPath(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s in PATH", name)
	}
	return path
}

func needRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: a real runtime needs it to make namespaces and cgroups")
	}
}

func TestLifecycle(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		b := newBox(t, binary, "fake", "exit", "7")
		p := b.create()
		st, err := b.cli.State(t.Context(), b.id)
		if err != nil || st.Status != "created" || st.Pid != p.Pid() {
			t.Fatalf("state after create: %+v, %v; the process is %d", st, err, p.Pid())
		}
		if err := b.cli.Start(t.Context(), b.id); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if e := p.Exit(); e.Status != 7 || !e.Known {
			t.Errorf("exit %+v, want a known 7", e)
		}
		if err := b.cli.Delete(t.Context(), b.id, false); err != nil {
			t.Fatal(err)
		}
		if _, err := b.cli.State(t.Context(), b.id); !errdefs.IsNotFound(err) {
			t.Errorf("state after delete: %v, want not found", err)
		}
		b.noScratch()
	})
}

func TestExec(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		b := newBox(t, binary, "fake", "sleep")
		b.running()
		r := b.execRequest("e1", "fake", "print", "hello", ";", "exit", "3")
		streams, out := b.streams()
		r.Streams = streams
		p, err := b.cli.Exec(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := streams.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if e := p.Exit(); e.Status != 3 || !e.Known {
			t.Errorf("exit %+v, want a known 3", e)
		}
		if err := streams.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(out); string(data) != "hello\n" {
			t.Errorf("stdout is %q", data)
		}
		b.noScratch()
	})
}

func TestErrorClasses(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		ctx := t.Context()
		b := newBox(t, binary, "fake", "sleep")
		for verb, err := range map[string]error{
			"start":  b.cli.Start(ctx, "nobody"),
			"pause":  b.cli.Pause(ctx, "nobody"),
			"kill":   b.cli.Kill(ctx, "nobody", unix.SIGKILL, false),
			"delete": b.cli.Delete(ctx, "nobody", false),
		} {
			if !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "OCI runtime "+verb+" failed: ") {
				t.Errorf("%s of an unknown container: %v", verb, err)
			}
		}
		p := b.running()
		if _, err := b.cli.Create(ctx, &CreateRequest{ID: b.id, Bundle: b.bundle}); !errdefs.IsAlreadyExists(err) {
			t.Errorf("second create: %v", err)
		}
		if _, err := b.cli.Exec(ctx, b.execRequest("e1", "no-such-program")); err == nil ||
			!strings.Contains(err.Error(), "executable file") || !strings.Contains(err.Error(), "not found in $PATH") ||
			errdefs.Resolve(err) != errdefs.ErrUnknown {
			t.Errorf("exec of nothing: %v", err)
		}
		if err := b.cli.Delete(ctx, b.id, false); err == nil {
			t.Error("delete of a running container is no error")
		}
		if err := b.cli.Resume(ctx, b.id); filepath.Base(binary) != "crun" && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("resume of a running container: %v", err)
		}
		select {
		case <-p.Done():
			t.Error("the errors above ended the container")
		default:
		}
		if err := b.cli.Kill(ctx, b.id, unix.SIGKILL, false); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if e := p.Exit(); e.Status != 137 {
			t.Errorf("exit %+v, want 137", e)
		}
		if _, err := b.cli.Exec(ctx, b.execRequest("e2", "fake")); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("exec in a stopped container: %v", err)
		}
		b.noScratch()
	})
}

func TestPauseUpdateKillAll(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		ctx := t.Context()
		b := newBox(t, binary, "fake", "sleep")
		p := b.running()
		if err := b.cli.Pause(ctx, b.id); err != nil {
			t.Fatal(err)
		}
		if st, err := b.cli.State(ctx, b.id); err != nil || st.Status != "paused" {
			t.Errorf("state %+v, %v; want paused", st, err)
		}
		if err := b.cli.Resume(ctx, b.id); err != nil {
			t.Fatal(err)
		}
		if err := b.cli.Update(ctx, b.id, []byte(`{"memory":{"limit":104857600}}`)); err != nil {
			t.Fatal(err)
		}
		if err := b.cli.Kill(ctx, b.id, unix.SIGKILL, true); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	})
}

// A forced delete is what `shim delete` in a fresh process has.
func TestDeleteForce(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		b := newBox(t, binary, "fake", "ignore", ";", "sleep")
		p := b.running()
		if err := b.cli.Delete(t.Context(), b.id, true); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if e := p.Exit(); e.Status != 137 || !e.Known {
			t.Errorf("exit %+v, want a known 137", e)
		}
	})
}

// The terminal is made by the runtime and sent over the console socket.
func TestTerminal(t *testing.T) {
	onEach(t, func(t *testing.T, binary string) {
		b := newBox(t, binary, "fake", "sleep")
		b.running()
		out := filepath.Join(t.TempDir(), "out")
		if err := unix.Mkfifo(out, 0o600); err != nil {
			t.Fatal(err)
		}
		reader, err := os.OpenFile(out, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reader.Close() }()
		streams, err := process.OpenStreams(t.Context(), process.StreamsConfig{
			ID: b.id, Namespace: "test", Supervisor: sup, RunDir: t.TempDir(),
			Stdio: process.Stdio{Stdout: out, Terminal: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = streams.Close() }()
		spec := processOf("fake", "print", "on a terminal", ";", "exit", "4")
		spec.Terminal = true
		r := b.execRequest("e1")
		if r.Process, err = json.Marshal(spec); err != nil {
			t.Fatal(err)
		}
		r.Streams = streams
		p, err := b.cli.Exec(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := streams.Attach(t.Context()); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(reader).ReadString('\n')
		if err != nil || line != "on a terminal\r\n" {
			t.Errorf("output %q, %v", line, err)
		}
		<-p.Done()
		if e := p.Exit(); e.Status != 4 {
			t.Errorf("exit %+v, want 4", e)
		}
	})
}
