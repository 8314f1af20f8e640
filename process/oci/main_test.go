// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/process"
	"berth/test/fakeoci"
	"berth/test/shelter"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// What all tests share: the only reaper of this program, the fake runtime, and a rootfs in
// which the same binary is /bin/fake. Set by TestMain.
var (
	sup    *process.Supervisor
	fake   string
	rootfs string
)

func TestMain(m *testing.M) {
	os.Exit(shelter.Main(func() int { return testMain(m) }))
}

func testMain(m *testing.M) int {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		return m.Run() // fuzzing starts workers of its own, which nobody else may reap
	}
	dir, err := os.MkdirTemp("", "oci-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	rootfs = filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "proc", "dev"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if fake, err = fakeoci.Compile(dir); err == nil {
		err = os.Link(fake, filepath.Join(rootfs, "bin", "fake"))
	}
	if err == nil {
		sup = process.NewSupervisor()
		err = sup.ReapOrphans()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for pid, parent := range parents() {
		if parent == os.Getpid() {
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			fmt.Fprintf(os.Stderr, "process %d is left: %q\n", pid, cmdline)
			code = 1
		}
	}
	sup.Close()
	return code
}

// box is one container's directory and the runtime that makes it.
type box struct {
	t      *testing.T
	cli    *CLI
	id     string
	bundle string
}

// newBox writes a bundle whose init runs args. What is left of the container is removed at
// the end of the test.
func newBox(t *testing.T, binary string, args ...string) *box {
	t.Helper()
	dir := t.TempDir()
	name := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, t.Name())
	b := &box{t: t, id: fmt.Sprintf("berth-oci-%d-%s", os.Getpid(), name), bundle: filepath.Join(dir, "bundle")}
	b.cli = &CLI{Binary: binary, Root: filepath.Join(dir, "root"), Dir: b.bundle, Supervisor: sup}
	if err := os.Mkdir(b.bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	b.write(args...)
	t.Cleanup(func() {
		if binary == fake {
			fakeoci.Plan{}.Write(t, b.bundle) // it behaves from here on
		}
		// The test's own context has ended by now.
		if err := b.cli.Delete(context.Background(), b.id, true); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			t.Error(err)
		}
	})
	return b
}

func (b *box) write(args ...string) {
	b.t.Helper()
	spec := specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: rootfs, Readonly: true},
		Process: processOf(args...),
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + b.id,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}},
		},
	}
	data, err := json.Marshal(spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.bundle, "config.json"), data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func processOf(args ...string) *specs.Process {
	return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}
}

func (b *box) plan(p fakeoci.Plan) { p.Write(b.t, b.bundle) }

func (b *box) verb(verb string, v fakeoci.Verb) {
	b.plan(fakeoci.Plan{Verbs: map[string]fakeoci.Verb{verb: v}})
}

// running makes a container and starts it.
func (b *box) running() *process.Process {
	b.t.Helper()
	p := b.create()
	if err := b.cli.Start(b.t.Context(), b.id); err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *box) create() *process.Process {
	b.t.Helper()
	p, err := b.cli.Create(b.t.Context(), &CreateRequest{ID: b.id, Bundle: b.bundle})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *box) execRequest(execID string, args ...string) *ExecRequest {
	b.t.Helper()
	data, err := json.Marshal(processOf(args...))
	if err != nil {
		b.t.Fatal(err)
	}
	return &ExecRequest{ID: b.id, ExecID: execID, Bundle: b.bundle, Process: data}
}

// streams opens streams whose stdout is the file that is returned.
func (b *box) streams() (*process.Streams, string) {
	b.t.Helper()
	f, err := os.CreateTemp(b.t.TempDir(), "stdout-")
	if err != nil {
		b.t.Fatal(err)
	}
	_ = f.Close()
	s, err := process.OpenStreams(b.t.Context(), process.StreamsConfig{
		ID: b.id, Namespace: "test", Supervisor: sup, RunDir: b.t.TempDir(),
		Stdio: process.Stdio{Stdout: "file://" + f.Name()},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.Close() })
	return s, f.Name()
}

// fifo makes a FIFO; got blocks until something is written to it.
func (b *box) fifo() (path string, got func()) {
	b.t.Helper()
	path = filepath.Join(b.t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path, func() {
		b.t.Helper()
		if _, err := os.ReadFile(path); err != nil {
			b.t.Fatal(err)
		}
	}
}

// noScratch checks that no file of a call is left in the bundle.
func (b *box) noScratch() {
	b.t.Helper()
	entries, err := os.ReadDir(b.bundle)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			b.t.Errorf("%s is left in the bundle", e.Name())
		}
	}
}

// noMembers checks that no process of the fake container is alive.
func (b *box) noMembers() {
	b.t.Helper()
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && strings.Contains(string(env), "FAKEOCI_CONTAINER="+b.cli.Root) {
			b.t.Errorf("process %s of the container is alive", e.Name())
		}
	}
}
