// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"io"
	"sync"
	"syscall"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

// request says what container a test wants. The zero value of a field is the usual.
type request struct {
	id       string // the test's name
	args     []string
	stdin    io.Reader
	terminal bool
	spec     []oci.SpecOpts
	options  any           // of the runtime
	rootfs   []mount.Mount // in place of the image's
	io       cio.Creator   // in place of stdin and the captured output
}

// container is a container and its task, removed when the test ends.
type container struct {
	containerd.Container
	task   containerd.Task
	stdout *output
	stderr *output
	node   *node.Node
}

// output collects a stream that another goroutine writes.
type output struct {
	mu     sync.Mutex // guards buffer and more
	buffer bytes.Buffer
	more   chan struct{} // closed at the next write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// await waits until the output holds a text.
func (o *output) await(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	for {
		o.mu.Lock()
		more, found := o.more, bytes.Contains(o.buffer.Bytes(), []byte(text))
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			t.Fatalf("waited for %q in output, have %q", text, o)
		}
	}
}

// create creates a container and its task.
func create(ctx context.Context, t *testing.T, n *node.Node, r runtimeCase, want request) *container {
	t.Helper()
	c, err := tryCreate(ctx, t, n, r, want)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tryCreate is create that returns the error of the task's creation.
func tryCreate(ctx context.Context, t *testing.T, n *node.Node, r runtimeCase, want request) (*container, error) {
	t.Helper()
	id := want.id
	if id == "" {
		id = identifier(t)
	}
	img := must(n.Client().GetImage(ctx, image.Demo))(t)
	of := []containerd.NewContainerOpts{containerd.WithImage(img), containerd.WithSnapshotter(n.Snapshotter()), containerd.WithNewSnapshot(id, img)}
	args := oci.WithImageConfigArgs(img, want.args)
	var opts []containerd.NewTaskOpts
	if want.rootfs != nil {
		of, args = nil, oci.Compose(oci.WithDefaultPathEnv, oci.WithProcessArgs(want.args...))
		opts = append(opts, containerd.WithRootFS(want.rootfs))
	}
	spec := []oci.SpecOpts{args, oci.WithCgroup(n.CgroupsPath(id))}
	if want.terminal {
		spec = append(spec, oci.WithTTY)
	}
	created, err := n.Client().NewContainer(ctx, id, append(of,
		containerd.WithNewSpec(append(spec, want.spec...)...),
		containerd.WithRuntime(r.name, withSystemd(want.options)),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	c := &container{Container: created, stdout: newOutput(), stderr: newOutput(), node: n}
	t.Cleanup(func() { c.remove(t) })
	creator := want.io
	if creator == nil {
		creator = c.streams(want.stdin, want.terminal)
	}
	c.task, err = created.NewTask(ctx, creator, opts...)
	return c, err
}

// streams captures the output.
func (c *container) streams(stdin io.Reader, terminal bool) cio.Creator {
	return streamsTo(c.node, stdin, c.stdout, c.stderr, terminal)
}

func streamsTo(n *node.Node, stdin io.Reader, stdout, stderr io.Writer, terminal bool) cio.Creator {
	if terminal {
		return cio.NewCreator(cio.WithStreams(stdin, stdout, nil), cio.WithTerminal, cio.WithFIFODir(n.FIFODir()))
	}
	return cio.NewCreator(cio.WithStreams(stdin, stdout, stderr), cio.WithFIFODir(n.FIFODir()))
}

// start starts a task or exec, and returns the channel of its exit.
func start(ctx context.Context, t *testing.T, p containerd.Process) <-chan containerd.ExitStatus {
	t.Helper()
	exit := must(p.Wait(ctx))(t)
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return exit
}

// status receives an exit.
func status(ctx context.Context, t *testing.T, exit <-chan containerd.ExitStatus) uint32 {
	t.Helper()
	select {
	case e := <-exit:
		if e.Error() != nil {
			t.Fatalf("wait: %v", e.Error())
		}
		return e.ExitCode()
	case <-ctx.Done():
		t.Fatal("no exit was reported")
		return 0
	}
}

// run starts the task, waits for it, deletes it and returns its status. After it
// the output is complete.
func (c *container) run(ctx context.Context, t *testing.T) uint32 {
	t.Helper()
	code := status(ctx, t, start(ctx, t, c.task))
	c.delete(ctx, t, code)
	return code
}

// delete deletes the ended task and wants the same status as Wait gave.
func (c *container) delete(ctx context.Context, t *testing.T, code uint32) {
	t.Helper()
	deleted, err := c.task.Delete(ctx)
	if err != nil {
		t.Fatalf("delete task: %v", err)
	}
	if deleted.ExitCode() != code {
		t.Errorf("delete says status %d, wait said %d", deleted.ExitCode(), code)
	}
}

// remove removes what the test left of the container.
func (c *container) remove(t *testing.T) {
	ctx := testContext(t, c.node)
	// Found again, because the client changes when containerd restarts.
	found, err := c.node.Client().LoadContainer(ctx, c.ID())
	if errdefs.IsNotFound(err) {
		return
	}
	if err != nil {
		t.Errorf("clean up: %v", err)
		return
	}
	if task, err := found.Task(ctx, nil); err == nil {
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("clean up: delete task: %v", err)
		}
	}
	if c.task != nil {
		closeIO(c.task.IO())
	}
	if err := found.Delete(ctx, containerd.WithSnapshotCleanup); err != nil && !errdefs.IsNotFound(err) {
		t.Errorf("clean up: delete container: %v", err)
	}
}

// closeIO removes the FIFOs of a process that cannot be deleted any more.
func closeIO(io cio.IO) {
	if io != nil {
		io.Cancel()
		// It has been closed already where the process was deleted after all.
		_ = io.Close()
	}
}

// kill signals a process.
func kill(ctx context.Context, t *testing.T, p containerd.Process, signal syscall.Signal) {
	t.Helper()
	if err := p.Kill(ctx, signal); err != nil {
		t.Fatalf("kill %v: %v", signal, err)
	}
}

// exec starts a command in the container's task.
func (c *container) exec(ctx context.Context, t *testing.T, id string, creator cio.Creator, args ...string) (containerd.Process, <-chan containerd.ExitStatus) {
	t.Helper()
	p := must(c.task.Exec(ctx, id, &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}, creator))(t)
	return p, start(ctx, t, p)
}

// exec1 runs a command in the container's task and returns its output and status.
func (c *container) exec1(ctx context.Context, t *testing.T, id string, stdin io.Reader, args ...string) (string, uint32) {
	t.Helper()
	out := newOutput()
	p, exit := c.exec(ctx, t, id, streamsTo(c.node, stdin, out, out, false), args...)
	code := status(ctx, t, exit)
	deleted, err := p.Delete(ctx)
	if err != nil {
		t.Fatalf("delete exec %s: %v", id, err)
	}
	if deleted.ExitCode() != code {
		t.Errorf("delete of exec %s says status %d, wait said %d", id, deleted.ExitCode(), code)
	}
	return out.String(), code
}

// wantClass fails unless the error is of a class and says something.
func wantClass(t *testing.T, what string, err error, class func(error) bool) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", what)
	case !class(err):
		t.Errorf("%s: wrong class of error: %v", what, err)
	default:
		t.Logf("%s: %v", what, err)
	}
}
