// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

// maxLines is how much of a command's output is shown.
const maxLines = 12

// demo runs the parts on a node and prints what they do.
type demo struct {
	out     io.Writer
	runtime string
	handler string // of CRI, for the runtime
	begin   time.Time
	node    *node.Node
	gpus    *gpuHost
}

func newDemo(out io.Writer, runtime string) *demo {
	handler := node.PodHandler
	if runtime == node.RuncRuntime {
		handler = node.RuncHandler
	}
	return &demo{out: out, runtime: runtime, handler: handler, begin: time.Now()}
}

func (d *demo) start(ctx context.Context) error {
	begin := time.Now()
	gpus, err := newGPUHost()
	if err != nil {
		return err
	}
	n, err := node.Start(ctx, node.Config{Env: []string{gpus.env()}})
	if err != nil {
		return errors.Join(err, gpus.close())
	}
	d.node, d.gpus = n, gpus
	version, err := n.Client().Version(ctx)
	if err != nil {
		return errors.Join(err, n.Stop(context.WithoutCancel(ctx)), gpus.close())
	}
	// A containerd built as a module adds that it does not know its commit.
	number, _, _ := strings.Cut(strings.TrimPrefix(version.Version, "v"), "+")
	d.title("A private containerd %s, with an image built here", number)
	d.printf("  up in %s; everything that it has is in NODE=%s, and GPU=%s\n", since(begin), n.Dir(), gpus.dir)
	return nil
}

// stop removes the node and says so. What is left behind is an error, unless the
// demo was cut short and could not remove its containers itself.
func (d *demo) stop(ctx context.Context, err error) error {
	begin := time.Now()
	leaks := errors.Join(d.node.Stop(context.WithoutCancel(ctx)), d.gpus.close())
	if err != nil {
		d.printf("\nStopped early; containerd, containers and files are removed.\n")
		return err
	}
	if leaks != nil {
		return leaks
	}
	d.title("Clean-up")
	d.printf("  containerd stopped and its files removed in %s; no process, mount, cgroup, socket or file is left\n", since(begin))
	d.printf("\nAll of it took %s.\n", since(d.begin))
	return nil
}

// container runs containers that end by themselves.
func (d *demo) container(ctx context.Context) error {
	d.title("ctr run --runtime %s", d.runtime)
	if err := d.ctr(ctx, 0, "run", "--rm", "--runtime", d.runtime, "--fifo-dir", d.node.FIFODir(), image.Demo, "hello",
		"sh", "-c", "echo Hello from PID $$, user $(id -un), on $(uname -sr)"); err != nil {
		return err
	}
	return d.ctr(ctx, 42, "run", "--rm", "--runtime", d.runtime, "--fifo-dir", d.node.FIFODir(), image.Demo, "status",
		"sh", "-c", "exit 42")
}

// longRunning runs a container in the background and does to it what an operator does.
func (d *demo) longRunning(ctx context.Context) error {
	d.title("A container in the background: exec, stats, kill, exit code")
	steps := []struct {
		status int
		args   []string
	}{
		{0, []string{"run", "-d", "--runtime", d.runtime, "--fifo-dir", d.node.FIFODir(), image.Demo, "server",
			"sh", "-c", "trap 'exit 7' TERM; sleep 1000 & wait"}},
		{0, []string{"task", "exec", "--fifo-dir", d.node.FIFODir(), "--exec-id", "look", "server", "ps"}},
		{5, []string{"task", "exec", "--fifo-dir", d.node.FIFODir(), "--exec-id", "fail", "server", "sh", "-c", "exit 5"}},
		{0, []string{"task", "metrics", "server"}},
		{0, []string{"task", "kill", "--signal", "SIGTERM", "server"}},
	}
	for _, s := range steps {
		if err := d.ctr(ctx, s.status, s.args...); err != nil {
			return err
		}
	}
	if err := d.await(ctx, "server"); err != nil {
		return err
	}
	// ctr itself exits with 0 and names the task's status in a warning.
	output, err := d.show(ctx, 0, "ctr", "task", "rm", "server")
	if err != nil {
		return err
	}
	if !strings.Contains(output, "exit code 7") {
		return errors.New("ctr task rm server: exit code 7 is not in its output")
	}
	return d.ctr(ctx, 0, "container", "rm", "server")
}

// await waits until a task has ended: kill only sends the signal.
func (d *demo) await(ctx context.Context, id string) error {
	c, err := d.node.Client().LoadContainer(ctx, id)
	if err != nil {
		return err
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		return err
	}
	exit, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	select {
	case <-exit:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ctr runs ctr in view and wants an exit status.
func (d *demo) ctr(ctx context.Context, status int, args ...string) error {
	_, err := d.show(ctx, status, "ctr", args...)
	return err
}

// show prints a command, runs it, and prints its output, time and exit status.
func (d *demo) show(ctx context.Context, status int, name string, args ...string) (string, error) {
	begin := time.Now()
	// Killed with the demo, so that an interrupted one does not hold up the clean-up.
	cmd := d.node.Command(ctx, name, args...)
	cmd.Env = append(cmd.Environ(), d.gpus.env())
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	err := d.node.StartCommand(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	d.printf("  $ %s\n", d.shorten(name+" "+quote(args)))
	lines := strings.Split(strings.TrimRight(output.String(), "\n"), "\n")
	for i, line := range lines {
		if i == maxLines {
			d.printf("      ... %d more lines\n", len(lines)-maxLines)
			break
		}
		if line != "" {
			d.printf("      %s\n", d.shorten(line))
		}
	}
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if got != 0 {
		d.printf("      (exit status %d, %s)\n", got, since(begin))
	} else {
		d.printf("      (%s)\n", since(begin))
	}
	if got != status {
		return "", fmt.Errorf("%s %s: exit status %d, want %d", name, quote(args), got, status)
	}
	return output.String(), nil
}

func (d *demo) title(format string, args ...any) {
	d.printf("\n== "+format+"\n", args...)
}

func (d *demo) printf(format string, args ...any) { fmt.Fprintf(d.out, format, args...) }

// shorten writes the node's directory as a variable, and long ids by their beginning.
func (d *demo) shorten(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, d.node.Dir(), "$NODE"), d.gpus.dir, "$GPU")
	return longID.ReplaceAllString(text, "$1")
}

func since(begin time.Time) string { return fmt.Sprintf("%.2f s", time.Since(begin).Seconds()) }

// quote writes arguments as a shell would read them.
func quote(args []string) string {
	var words []string
	for _, a := range args {
		if strings.ContainsAny(a, " $;'\"*") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
