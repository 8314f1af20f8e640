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
	"strings"

	"berth/test/e2e/conformance/daemon"
)

// bench is the two daemons of a run, the shim's first.
type bench struct {
	options options
	dir     string
	daemons [2]*daemon.Daemon
}

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
	payload := filepath.Join(dir, "payload")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", payload, "berth/test/e2e/conformance/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build payload: %w\n%s", err, out)
	}
	for i, shim := range []string{o.shim, o.control} {
		program, err := os.ReadFile(shim)
		if err != nil {
			return nil, err
		}
		private := filepath.Join(dir, filepath.Base(shim))
		if err := os.WriteFile(private, program, 0o755); err != nil {
			return nil, err
		}
		home := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(home, 0o711); err != nil {
			return nil, err
		}
		b.daemons[i], err = daemon.New(daemon.Config{
			Shim: private, Runtime: o.runtime, Payload: payload, Dir: home,
			Name: fmt.Sprintf("berth-%s-%d", filepath.Base(dir), i),
		})
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// close ends what still runs and removes every file.
func (b *bench) close() error {
	var errs []error
	for _, d := range b.daemons {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// all runs every measurement and prints the table.
func (b *bench) all(ctx context.Context, out io.Writer) error {
	r := newReport(b.options)
	for _, part := range []func(context.Context, *report) error{b.lives, b.crowd, b.execs, b.memory} {
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
	for _, d := range b.daemons {
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
func (b *bench) alternate(round int, f func(which int, d *daemon.Daemon) error) error {
	for i := range b.daemons {
		which := (i + round) % len(b.daemons)
		if err := f(which, b.daemons[which]); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(b.daemons[which].Shim), err)
		}
	}
	return nil
}
