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

	"golang.org/x/sys/unix"

	"berth/test/e2e/conformance/daemon"
)

// bench is the daemons of a run.
type bench struct {
	options options
	dir     string
	payload string
	daemons sides
	node    sides     // with one shim for all pods, and the control; empty if not asked for
	gpu     *gpuBench // nil without a gpu shim to measure
}

// sides are the daemons that are compared, that of the control last.
type sides []*daemon.Daemon

// side is what one of them runs.
type side struct {
	name, shim, runtime string
	env                 []string // of containerd
}

// sides are what a run compares. A shim that is not told a runtime drives runc's
// library, its default, and one that is runs it.
func (o options) sides() (list []side) {
	for name := range strings.SplitSeq(o.drivers, ",") {
		list = append(list, side{name: name, shim: o.shim, runtime: o.driven(name)})
	}
	return append(list, side{name: "control", shim: o.control, runtime: o.runtime})
}

// driven is the runtime to name for a driver.
func (o options) driven(name string) string {
	if name == "command" {
		return o.runtime
	}
	return ""
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
	if err := os.Mkdir(b.run(), 0o711); err != nil {
		return nil, err
	}
	b.payload = filepath.Join(dir, "payload")
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", b.payload, "berth/test/e2e/conformance/payload")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build payload: %w\n%s", err, out)
	}
	// containerd has its bundles, sockets and runc's state on a tmpfs.
	if err := unix.Mount("tmpfs", b.run(), "tmpfs", 0, "mode=0711"); err != nil {
		return nil, fmt.Errorf("mount a tmpfs for the daemons: %w", err)
	}
	if err := b.add(&b.daemons, "", o.sides()...); err != nil {
		return nil, err
	}
	if o.nodePods > 0 {
		if err := b.addNode(); err != nil {
			return nil, err
		}
	}
	if o.gpu != "" {
		b.gpu, err = newGPUBench(b)
	}
	return b, err
}

// run is where the daemons have their directories.
func (b *bench) run() string { return filepath.Join(b.dir, "r") }

// add makes daemons. Each has a copy of its shim to itself, which so shares no page
// with one that runs elsewhere on the host.
func (b *bench) add(to *sides, name string, list ...side) error {
	for i, s := range list {
		program, err := os.ReadFile(s.shim)
		if err != nil {
			return err
		}
		own := name + fmt.Sprint(i)
		home, programs := filepath.Join(b.run(), own), filepath.Join(b.dir, "p"+own)
		if err := errors.Join(os.Mkdir(home, 0o711), os.Mkdir(programs, 0o711)); err != nil {
			return err
		}
		private := filepath.Join(programs, filepath.Base(s.shim))
		if err := os.WriteFile(private, program, 0o755); err != nil {
			return err
		}
		d, err := daemon.New(daemon.Config{
			Shim: private, Runtime: s.runtime, Payload: b.payload, Dir: home, Env: s.env,
			Name: fmt.Sprintf("berth-%s-%s", filepath.Base(b.dir), own),
		})
		if err != nil {
			return err
		}
		*to = append(*to, d)
	}
	return nil
}

// all are the daemons there are.
func (b *bench) all() []*daemon.Daemon {
	if b.gpu != nil {
		return slices.Concat(b.daemons, b.node, b.gpu.daemons)
	}
	return slices.Concat(b.daemons, b.node)
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
	if err := unix.Unmount(b.run(), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		errs = append(errs, fmt.Errorf("unmount the daemons' tmpfs: %w", err))
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// part is one of the measurements.
type part struct {
	name    string
	measure func(context.Context, *report) error
}

// measure does every measurement and prints the tables.
func (b *bench) measure(ctx context.Context, out io.Writer) error {
	r := newReport(b.options)
	parts := []part{{"lives", b.lives}, {"probes", b.probes}, {"crowd", b.crowd}, {"execs", b.execs}, {"memory", b.memory}}
	if b.options.nodePods > 0 {
		parts = append(parts, part{"node", b.nodeMemory})
	}
	if b.gpu != nil {
		r.GPU.Driver = fmt.Sprintf("fake driver %s of 8 %s", b.gpu.driver.Version, b.gpu.driver.GPUs[0].Name)
		parts = append(parts, part{"gpu", b.gpu.lives}, part{"gpu", b.gpu.hook}, part{"gpu", b.gpu.memory})
	}
	for _, part := range parts {
		if only := b.options.only; only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := part.measure(ctx, r); err != nil {
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

// alternate calls f for all sides, the order changing with the round.
func (s sides) alternate(round int, f func(which int, d *daemon.Daemon) error) error {
	for i := range s {
		which := (i + round) % len(s)
		if err := f(which, s[which]); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(s[which].Shim), err)
		}
	}
	return nil
}
