// SPDX-License-Identifier: Apache-2.0

package native

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"berth/process"
	"berth/process/oci"
	"berth/test/leak"
	"berth/test/shelter"
)

// attack is the path of the hostile program, built before any supervisor reaps
// what it does not know.
var attack string

// runc is the command line to compare with, of the library's version.
var runc = os.Getenv("BERTH_RUNC")

func TestMain(m *testing.M) {
	if landHere() != nil { // its parent is in it already (TestRootless)
		os.Exit(run(m))
	}
	os.Exit(shelter.Main(func() int { return run(m) }))
}

func run(m *testing.M) int {
	noteBeginning()
	dir, err := os.MkdirTemp("", "berth-native-*")
	if attack = os.Getenv("BERTH_ATTACK"); err == nil && attack == "" { // one for machines without the go command
		attack = filepath.Join(dir, "attack")
		build := exec.Command("go", "build", "-o", attack, "./testdata/attack")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := leak.Main(m)
	_ = os.RemoveAll(dir)
	return code
}

// limit turns a hang into a failure.
const limit = time.Minute

// box is one container, and the driver that makes it.
type box struct {
	*testing.T
	sup    *process.Supervisor
	driver *Driver
	id     string
	bundle string
	rootfs string
	spec   *specs.Spec
}

func newBox(t *testing.T, script string) *box {
	t.Helper()
	land := landHere()
	if os.Geteuid() != 0 && land == nil {
		t.Skip("not root: namespaces and cgroups cannot be made")
	}
	dir := t.TempDir()
	sup := process.NewSupervisor()
	t.Cleanup(sup.Close)
	if err := sup.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	name := strings.NewReplacer("/", "-", "#", "-").Replace(strings.TrimPrefix(t.Name(), "Test"))
	b := &box{T: t, sup: sup, id: fmt.Sprintf("berth-nat-%d-%s", os.Getpid(), name), bundle: filepath.Join(dir, "bundle"), rootfs: filepath.Join(dir, "rootfs")}
	b.driver = &Driver{Root: filepath.Join(dir, "root"), Dir: b.bundle, Supervisor: sup, SystemdCgroup: underSystemd}
	b.must(os.Mkdir(b.bundle, 0o700))
	for _, d := range []string{"bin", "proc", "dev", "tmp"} {
		b.must(os.MkdirAll(filepath.Join(b.rootfs, d), 0o755))
	}
	program, err := os.ReadFile("/bin/busybox")
	b.must(err)
	b.must(os.WriteFile(filepath.Join(b.rootfs, "bin/busybox"), program, 0o755))
	for _, name := range []string{"sh", "cat", "sleep", "ls", "true", "pwd", "kill", "readlink", "sed"} {
		b.must(os.Symlink("busybox", filepath.Join(b.rootfs, "bin", name)))
	}
	b.spec = &specs.Spec{
		Version: "1.2.0",
		Root:    &specs.Root{Path: b.rootfs},
		Process: shell(script),
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: b.cgroupsPath(),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
		},
	}
	if land != nil {
		b.settleIn(land)
	}
	t.Cleanup(b.remove)
	return b
}

// another is one more container of the same program, which is as the first.
func (b *box) another() *box {
	b.Helper()
	other, spec, linux := *b, *b.spec, *b.spec.Linux
	other.id, other.bundle, other.spec = b.id+"b", filepath.Join(b.TempDir(), "bundle"), &spec
	other.driver = &Driver{Root: b.driver.Root, Dir: other.bundle, Supervisor: b.sup, SystemdCgroup: underSystemd}
	spec.Linux, linux.CgroupsPath = &linux, other.cgroupsPath()
	b.must(os.Mkdir(other.bundle, 0o700))
	b.Cleanup(other.remove)
	return &other
}

// cgroup is where the container's cgroup is, below the root of each hierarchy.
func (b *box) cgroup() string { return filepath.Join(os.Getenv(cgroupKey), b.id) }

// remove ends what is left, on a context that has not ended.
func (b *box) remove() {
	if _, err := os.Stat(filepath.Join(b.driver.Root, b.id)); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := b.driver.Delete(ctx, b.id, true); err != nil && !errdefs.IsNotFound(err) {
		b.Error(err)
	}
}

func shell(script string) *specs.Process {
	return &specs.Process{Args: []string{"/bin/sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}}
}

func (b *box) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *box) write() {
	b.Helper()
	if l := landHere(); l != nil {
		l.allow(b.spec)
	}
	b.writeSpec()
}

func (b *box) writeSpec() {
	b.Helper()
	config, err := json.Marshal(b.spec)
	b.must(err)
	b.must(os.WriteFile(filepath.Join(b.bundle, "config.json"), config, 0o600))
}

func (b *box) tryCreate(stdio oci.Stdio) (*process.Process, error) {
	b.Helper()
	b.write()
	return b.driver.Create(b.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle, Streams: stdio})
}

func (b *box) run(stdio oci.Stdio) *process.Process {
	b.Helper()
	p, err := b.tryCreate(stdio)
	b.must(err)
	b.must(b.driver.Start(b.Context(), b.id))
	return p
}

func (b *box) exec(p *specs.Process, stdio oci.Stdio) (*process.Process, error) {
	b.Helper()
	spec, err := json.Marshal(p)
	b.must(err)
	return b.driver.Exec(b.Context(), &oci.ExecRequest{ID: b.id, ExecID: "e", Bundle: b.bundle, Process: spec, Streams: stdio})
}

// output is a process's stdout and stderr: one file.
type output struct {
	t *testing.T
	f *os.File
}

func newOutput(t *testing.T) output {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "out-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return output{t, f}
}

func (o output) Files() []*os.File     { return []*os.File{nil, o.f, o.f} }
func (o output) ConsoleSocket() string { return "" }

func (o output) text() string {
	o.t.Helper()
	data, err := os.ReadFile(o.f.Name())
	if err != nil {
		o.t.Fatal(err)
	}
	return string(data)
}

func (b *box) status(p *process.Process) int {
	b.Helper()
	select {
	case <-p.Done():
	case <-time.After(limit):
		b.Fatal("the process does not end")
	}
	if !p.Exit().Known {
		b.Error("its exit is not known")
	}
	return p.Exit().Status
}

func (b *box) kill(p *process.Process) {
	b.Helper()
	b.must(p.Signal(unix.SIGKILL))
	b.status(p)
}

// until returns once something is so. It is for what nobody tells of.
func (b *box) until(what string, so func() bool) {
	b.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("waited in vain until %s", what)
		}
	}
}

// nothingLeft checks that neither state nor cgroup of the container is there.
func (b *box) nothingLeft() {
	b.Helper()
	if entries, _ := os.ReadDir(b.driver.Root); len(entries) > 0 {
		b.Errorf("runc's state has %v", entries)
	}
	for _, pattern := range b.cgroups() {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			b.Errorf("cgroups are left: %v", left)
		}
	}
	b.noUnit()
}
