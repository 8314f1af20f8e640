// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"berth/test/e2e/conformance/daemon"
)

// bench is the daemons of a run.
type bench struct {
	options options
	dir     string
	payload string
	daemons pair
	gpu     *gpuBench // nil without a gpu shim to measure
}

// pair is two daemons that are compared, that of the measured shim first.
type pair [2]*daemon.Daemon

// prepare compiles the payload, copies both shims (so that neither shares its
// pages with one that runs elsewhere on the host) and makes the daemons.
func prepare(ctx context.Context, o options) (_ *bench, retErr error) {
	dir, err := os.MkdirTemp("", "bb")
	if err != nil {
		return nil, err
	}
	b := &bench{options: o, dir: dir}
	defer func() {
		if retErr != nil {
			retErr = errors.Join(retErr, b.close())
		}
	}()
	b.payload = filepath.Join(dir, "payload")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", b.payload, "berth/test/e2e/conformance/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build payload: %w\n%s", err, out)
	}
	if err := b.pair(&b.daemons, "", o.shim, o.control); err != nil {
		return nil, err
	}
	if o.gpu != "" {
		b.gpu, err = newGPUBench(b)
	}
	return b, err
}

// pair makes two daemons. Each has a copy of its shim to itself, which so shares
// no page with one that runs elsewhere on the host.
func (b *bench) pair(p *pair, name string, shims ...string) error {
	for i, shim := range shims {
		program, err := os.ReadFile(shim)
		if err != nil {
			return err
		}
		home := filepath.Join(b.dir, name+fmt.Sprint(i))
		if err := os.Mkdir(home, 0o711); err != nil {
			return err
		}
		private := filepath.Join(b.dir, name+filepath.Base(shim))
		if err := os.WriteFile(private, program, 0o755); err != nil {
			return err
		}
		runtime := ""
		if b.options.command || shim == b.options.control {
			runtime = b.options.runtime
		}
		p[i], err = daemon.New(daemon.Config{
			Shim: private, Runtime: runtime, Payload: b.payload, Dir: home,
			Name: fmt.Sprintf("berth-%s-%s%d", filepath.Base(b.dir), name, i),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// all are the daemons there are.
func (b *bench) all() []*daemon.Daemon {
	list := b.daemons[:]
	if b.gpu != nil {
		list = slices.Concat(list, b.gpu.daemons[:])
	}
	return slices.DeleteFunc(slices.Clone(list), func(d *daemon.Daemon) bool { return d == nil })
}

// close ends what still runs and removes every file.
func (b *bench) close() error {
	var errs []error
	for _, d := range b.all() {
		errs = append(errs, d.Close())
	}
	if b.gpu != nil {
		errs = append(errs, b.gpu.driver.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// run does every measurement and prints the tables.
func (b *bench) run(ctx context.Context, out io.Writer) error {
	r := newReport(b.options)
	parts := []func(context.Context, *report) error{b.lives, b.crowd, b.execs, b.memory}
	if b.options.onlyGPU {
		parts = nil
	}
	if b.gpu != nil {
		r.GPU.Driver = fmt.Sprintf("fake driver %s of 8 %s", b.gpu.driver.Version, b.gpu.driver.GPUs[0].Name)
		parts = append(parts, b.gpu.lives, b.gpu.hook, b.gpu.memory)
	}
	for _, part := range parts {
		if err := part(ctx, r); err != nil {
			return err
		}
		if err := b.clean(); err != nil {
			return err
		}
	}
	if err := r.print(out); err != nil {
		return err
	}
	return r.save(b.options.json)
}

// clean fails if a measurement left something running: its numbers would be
// those of a shim that does not do its work.
func (b *bench) clean() error {
	for _, d := range b.all() {
		left, err := d.Leftovers()
		if err != nil {
			return err
		}
		left.Sockets = nil // the control leaves those of its groups
		left.Processes = nil
		if !left.Empty() {
			return fmt.Errorf("%s left:\n%s", strings.TrimPrefix(filepath.Base(d.Shim), "containerd-shim-"), left)
		}
	}
	return nil
}

// alternate calls f for both shims, the order changing with the round.
func (p pair) alternate(round int, f func(which int, d *daemon.Daemon) error) error {
	for i := range p {
		which := (i + round) % len(p)
		if err := f(which, p[which]); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(p[which].Shim), err)
		}
	}
	return nil
}
