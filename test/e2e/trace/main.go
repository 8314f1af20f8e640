// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(1)
	}
}

type options struct {
	shim, runtime, svg string
	lives, execs       int
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("trace", flag.ContinueOnError)
	flags.StringVar(&o.shim, "shim", "", "path of the shim")
	flags.StringVar(&o.runtime, "runtime", "", "path of runc, which the shim is told to run; empty: the shim runs what it does by default")
	flags.StringVar(&o.svg, "svg", "", "the file to draw")
	flags.IntVar(&o.lives, "lives", 40, "lives to take the median of")
	flags.IntVar(&o.execs, "execs", 0, "draw one exec of a series, the median of so many in one container, instead of lives")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.shim == "" || o.svg == "" || o.lives < 1 {
		return errors.New("-shim and -svg are needed, and at least one life")
	}
	phases, err := medians(ctx, o)
	if err != nil {
		return err
	}
	title := filepath.Base(o.shim)
	if o.runtime != "" {
		title += " over the command line of " + filepath.Base(o.runtime)
	}
	what := fmt.Sprintf("the median of %d lives, phase by phase", o.lives)
	if o.execs > 0 {
		what = fmt.Sprintf("one exec of a series, the median of %d", o.execs)
	}
	if err := os.WriteFile(o.svg, draw(title+": "+what, phases), 0o644); err != nil {
		return err
	}
	return explain(out, title, phases)
}

// medians are the phases of which as many were shorter as longer, after one life
// with cold caches.
func medians(ctx context.Context, o options) (_ []*phase, retErr error) {
	daemon.RegisterTypes()
	dir, err := os.MkdirTemp("", "bt")
	if err != nil {
		return nil, err
	}
	defer func() { retErr = errors.Join(retErr, os.RemoveAll(dir)) }()
	// containerd has its bundles, sockets and runc's state on a tmpfs.
	run := filepath.Join(dir, "r")
	if err := os.Mkdir(run, 0o711); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, "mode=0711"); err != nil {
		return nil, fmt.Errorf("mount a tmpfs for the daemon: %w", err)
	}
	defer func() { retErr = errors.Join(retErr, unix.Unmount(run, unix.MNT_DETACH)) }()
	home := filepath.Join(run, "0")
	if err := os.Mkdir(home, 0o711); err != nil {
		return nil, err
	}
	payload := filepath.Join(dir, "payload")
	build := osexec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", payload, "berth/test/e2e/conformance/payload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build payload: %w\n%s", err, text)
	}
	d, err := daemon.New(daemon.Config{Shim: o.shim, Runtime: o.runtime, Payload: payload, Dir: home, Name: "berth-" + filepath.Base(dir)})
	if err != nil {
		return nil, err
	}
	defer func() { retErr = errors.Join(retErr, d.Close()) }()
	w, err := newWatch()
	if err != nil {
		return nil, err
	}
	defer func() { retErr = errors.Join(retErr, w.close()) }()

	if o.execs > 0 {
		return medianExec(ctx, d, w, o.execs)
	}
	var all [][]*phase // by phase, then by life
	for i := range o.lives + 1 {
		life, err := live(ctx, d, w, fmt.Sprintf("t%d", i), 1)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			all = make([][]*phase, len(life))
			continue
		}
		for n, p := range life {
			all[n] = append(all[n], p)
		}
	}
	var middle []*phase
	for _, list := range all {
		middle = append(middle, median(list))
	}
	return middle, nil
}

// medianExec is that of so many in a row in one container, of which the first have
// cold caches and no attach to a cgroup just before them.
func medianExec(ctx context.Context, d *daemon.Daemon, w *watch, execs int) ([]*phase, error) {
	const cold = 5
	life, err := live(ctx, d, w, "t", execs+cold)
	if err != nil {
		return nil, err
	}
	return []*phase{median(life[1+cold : len(life)-1])}, nil
}

func median(list []*phase) *phase {
	slices.SortFunc(list, func(a, b *phase) int { return cmp.Compare(a.took(), b.took()) })
	return list[len(list)/2]
}
