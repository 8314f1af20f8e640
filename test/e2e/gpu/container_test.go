// SPDX-License-Identifier: Apache-2.0

package gpu

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/e2e/node"
)

// request says what container a test wants. The zero value of a field is the
// usual.
type request struct {
	id          string // the test's name
	image       string // glibc
	runtime     string // the gpu shim
	options     any    // of the runtime; none
	args        []string
	gpu         string // annotation berth.dev/gpu
	annotations map[string]string
	env         []string
	spec        []oci.SpecOpts
	root        containerd.NewContainerOpts // a new snapshot of the image
	rootfs      string                      // a directory in place of an image's snapshot
}

// idle is a command that runs until it is killed.
var idle = []string{"sleep", "1000"}

type container struct {
	containerd.Container
	task containerd.Task
	exit <-chan containerd.ExitStatus
	out  *output
}

// output collects a stream that another goroutine writes.
type output struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// start creates a container and starts it.
func start(ctx context.Context, t *testing.T, want request) *container {
	t.Helper()
	c, err := tryStart(ctx, t, want)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryStart is start that returns the error of the task's creation.
func tryStart(ctx context.Context, t *testing.T, want request) (*container, error) {
	t.Helper()
	c := prepared(ctx, t, &want)
	var err error
	streams := cio.NewCreator(cio.WithStreams(nil, c.out, c.out), cio.WithFIFODir(shared.FIFODir()))
	if c.task, err = c.NewTask(ctx, streams); err != nil {
		return c, err
	}
	c.exit = must(c.task.Wait(ctx))(t)
	if err := c.task.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c, nil
}

// prepared is a container without a task.
func prepared(ctx context.Context, t *testing.T, want *request) *container {
	t.Helper()
	if want.id == "" {
		want.id = identifier(t)
	}
	if want.image == "" {
		want.image = glibc
	}
	if want.runtime == "" {
		want.runtime = node.GPURuntime
	}
	if want.args == nil {
		want.args = idle
	}
	annotations := maps.Clone(want.annotations)
	if want.gpu != "" {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations["berth.dev/gpu"] = want.gpu
	}
	img := must(shared.Client().GetImage(ctx, want.image))(t)
	root := []containerd.NewContainerOpts{containerd.WithImage(img), containerd.WithSnapshotter(shared.Snapshotter()), want.root}
	if want.root == nil {
		root[2] = containerd.WithNewSnapshot(want.id, img)
	}
	spec := []oci.SpecOpts{
		oci.WithImageConfigArgs(img, want.args), oci.WithCgroup("/" + shared.ID() + "/" + want.id),
		oci.WithAnnotations(annotations), oci.WithEnv(want.env),
	}
	if want.rootfs != "" {
		root = nil
		spec = append([]oci.SpecOpts{oci.WithRootFSPath(want.rootfs)}, spec...) // users are looked up in it
	}
	created := must(shared.Client().NewContainer(ctx, want.id, append(root,
		containerd.WithNewSpec(slices.Concat(spec, want.spec)...), containerd.WithRuntime(want.runtime, want.options))...))(t)
	c := &container{Container: created, out: new(output)}
	t.Cleanup(func() { c.remove(t) })
	return c
}

// run is a container from its start to its end: its output and status.
func run1(ctx context.Context, t *testing.T, want request) (string, uint32) {
	t.Helper()
	c := start(ctx, t, want)
	code := c.wait(ctx, t)
	if _, err := c.task.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	return c.out.String(), code
}

// wait waits for the end of the container.
func (c *container) wait(ctx context.Context, t *testing.T) uint32 {
	t.Helper()
	select {
	case e := <-c.exit:
		return e.ExitCode()
	case <-ctx.Done():
		t.Fatal("no exit was reported")
		return 0
	}
}

// exec runs a command in the container: its output and status.
func (c *container) exec(ctx context.Context, t *testing.T, args ...string) (string, uint32) {
	t.Helper()
	out := new(output)
	spec := must(c.Spec(ctx))(t)
	process := &specs.Process{Args: args, Cwd: "/", Env: spec.Process.Env, Capabilities: spec.Process.Capabilities}
	p := must(c.task.Exec(ctx, fmt.Sprintf("e%p", out), process, cio.NewCreator(cio.WithStreams(nil, out, out), cio.WithFIFODir(shared.FIFODir()))))(t)
	exit := must(p.Wait(ctx))(t)
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	status := <-exit
	if _, err := p.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	return out.String(), status.ExitCode()
}

// remove removes what the test left of the container, by the client of now:
// the test may have restarted containerd.
func (c *container) remove(t *testing.T) {
	ctx := testContext(t)
	if c.task != nil {
		defer func() { c.task.IO().Cancel(); _ = c.task.IO().Close() }()
	}
	if err := removeContainer(ctx, c.ID()); err != nil {
		t.Errorf("clean up: %v", err)
	}
}

// removeContainer removes a container, running or not, if there is one.
func removeContainer(ctx context.Context, id string) error {
	c, err := shared.Client().LoadContainer(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if task, err := c.Task(ctx, nil); err == nil {
		_, err = task.Delete(ctx, containerd.WithProcessKill)
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("delete the task of %s: %w", id, err)
		}
	} else if !errdefs.IsNotFound(err) {
		return fmt.Errorf("find the task of %s: %w", id, err)
	}
	if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	return nil
}
