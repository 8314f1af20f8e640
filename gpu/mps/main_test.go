// SPDX-License-Identifier: Apache-2.0

package mps

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/process"
	"berth/process/cgroup"
	"berth/test/fakedriver"
	"berth/test/leak"
	"berth/test/shelter"
)

// built is where the helper and the fake daemon are.
var built string

func TestMain(m *testing.M) {
	os.Exit(shelter.Main(func() int { return run(m) }))
}

func run(m *testing.M) int {
	code := 1
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = leak.Main(m)
	}
	_ = os.RemoveAll(built)
	return code
}

func build() (err error) {
	if built, err = os.MkdirTemp("", "berth-mps-"); err != nil {
		return err
	}
	if err = os.Chmod(built, 0o711); err != nil { // a server passes through it
		return err
	}
	cmd := exec.Command("go", "build", "-ldflags", `-extldflags "-Wl,-z,lazy"`, "-o", filepath.Join(built, "berth-gpu"), "berth/cmd/berth-gpu")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the helper: %w: %s", err, out)
	}
	_, err = fakedriver.BuildMPS(built)
	return err
}

// rig is a host with a driver, and a pod whose containers are in cgroups.
type rig struct {
	*Host
	driver *fakedriver.Driver
	parent string // of the containers' cgroups
}

func newRig(t *testing.T, misbehave ...string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp(built, "test-")
	if err != nil {
		t.Fatal(err)
	}
	d, err := fakedriver.Build(filepath.Join(dir, "root"), fakedriver.Config{GPUs: 2, MPS: filepath.Join(built, "nvidia-cuda-mps-control")})
	if err != nil {
		t.Fatal(err)
	}
	sup := process.NewSupervisor()
	if err := sup.ReapOrphans(); err != nil {
		t.Fatal(err)
	}
	r := &rig{
		Host: &Host{
			Dir: filepath.Join(dir, "mps"), Helper: filepath.Join(built, "berth-gpu"),
			DriverRoot: d.Root, DevRoot: d.Dev, Supervisor: sup,
		},
		driver: d, parent: fmt.Sprintf("/berth-mps-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")),
	}
	r.misbehave(t, misbehave...)
	t.Cleanup(func() {
		r.wantNothing(t)
		sup.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		place, err := cgroup.Place(r.parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range place.Dirs {
			if err := os.Remove(dir.Path); err != nil && !os.IsNotExist(err) {
				t.Errorf("a cgroup is left: %v", err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) misbehave(t *testing.T, how ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.driver.Root, "etc/fake-mps.conf"), []byte(strings.Join(how, " ")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantNothing wants no daemon, and nothing of one.
func (r *rig) wantNothing(t *testing.T) {
	t.Helper()
	if keys := r.keys(); len(keys) > 0 {
		t.Errorf("left: %q", keys)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(mounts), r.Dir) {
		t.Error("a mount is left")
	}
}

const control = "/usr/bin/nvidia-cuda-mps-control"

var owner = Owner{Namespace: "ns", ID: "pod", Pod: true}

// request is that of a container of the pod.
func (r *rig) request(id, ask string) Request {
	a, err := ParseAsk(ask)
	if err != nil {
		panic(err)
	}
	return Request{
		Owner: owner, ID: id, CgroupsPath: r.parent + "/" + id, Ask: a, Control: control,
		Devices: []string{r.driver.GPUs[0].UUID, r.driver.GPUs[1].UUID},
	}
}

func (r *rig) join(t *testing.T, q Request) *Seat {
	t.Helper()
	seat, err := r.Join(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return seat
}

func (r *rig) leave(t *testing.T, id string) {
	t.Helper()
	if err := r.Leave(t.Context(), owner, id, control); err != nil {
		t.Fatal(err)
	}
}

// client runs a program that uses CUDA, in the view that a container has, and
// returns what it says it got.
func (r *rig) client(t *testing.T) string {
	t.Helper()
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	p := &pod{Host: r.Host, path: filepath.Join(r.Dir, owner.key())}
	c, err := r.Supervisor.Start(&process.Command{
		Path: r.Helper, Args: append(p.view(), control, "-fake-client", "-once"), Files: []*os.File{nil, stdout, stdout},
	})
	_ = stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(out)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := end(ctx, c); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
