// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"berth/test/e2e/conformance/daemon"
)

// bench is one run.
type bench struct {
	options options
	dir     string
	payload string
	report  *report
}

// run measures everything and prints it.
func (b *bench) run(ctx context.Context, out io.Writer) error {
	b.report = newReport(b.options)
	b.report.row(coldBoot) // the first in the table, and the last to be known
	if err := b.with("cold", "", func(d *daemon.Daemon) error { return b.cold(ctx, d) }); err != nil {
		return err
	}
	if err := b.with("cached", "share_cache = \"always\"\n", func(d *daemon.Daemon) error { return b.cached(ctx, d) }); err != nil {
		return err
	}
	if err := b.with("clone", fmt.Sprintf("template = %q\n", b.options.template), func(d *daemon.Daemon) error { return b.clones(ctx, d) }); err != nil {
		return err
	}
	if err := b.bare(ctx); err != nil {
		return err
	}
	if err := b.report.print(out); err != nil {
		return err
	}
	return b.report.save(b.options.json)
}

// with calls f with a daemon, and fails if anything is left of what f did:
// its numbers would be those of a shim that does not do its work.
func (b *bench) with(name, vmOptions string, f func(*daemon.Daemon) error) (retErr error) {
	home := filepath.Join(b.dir, name)
	if err := os.Mkdir(home, 0o711); err != nil {
		return err
	}
	// A copy of its own shares no page with one that runs elsewhere on the host.
	program, err := os.ReadFile(b.options.shim)
	if err != nil {
		return err
	}
	shim := filepath.Join(b.dir, name+"-"+filepath.Base(b.options.shim))
	if err := os.WriteFile(shim, program, 0o755); err != nil {
		return err
	}
	d, err := daemon.New(daemon.Config{
		Shim: shim, Payload: b.payload, Dir: home, Name: "berth-" + filepath.Base(b.dir) + "-" + name,
		Guest: b.options.guest, GuestOptions: vmOptions,
	})
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, d.Close()) }()
	if err := f(d); err != nil {
		return err
	}
	left, err := d.Leftovers()
	if err == nil && !left.Empty() {
		err = fmt.Errorf("the shim left:\n%s", left)
	}
	return err
}

// cold measures machines that boot, and what goes on in one.
func (b *bench) cold(ctx context.Context, d *daemon.Daemon) error {
	for i := range b.options.boots + 1 {
		c, took, err := up(ctx, d, fmt.Sprintf("cold%d", i), "hello")
		if err != nil {
			return err
		}
		if i > 0 { // the first reads the image
			b.report.time(coldBoot, took)
		}
		switch i {
		case 0:
			b.report.machine(c.vmm)
			err = b.running(ctx, c)
		case 1:
			err = b.memory(ctx, c, booted)
		}
		if err == nil {
			err = b.end(ctx, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cached measures what a guest gains that need not ask again for what it has read.
func (b *bench) cached(ctx context.Context, d *daemon.Daemon) error {
	c, _, err := up(ctx, d, "cached", "hello")
	if err != nil {
		return err
	}
	if err := b.execs(ctx, c, cachedExec); err != nil {
		return err
	}
	return b.end(ctx, c)
}

// end ends a machine by the death of its monitor, and times what is told of it.
func (b *bench) end(ctx context.Context, c *container) error {
	took, err := c.killMonitor(ctx)
	if err != nil {
		return err
	}
	b.report.time(death, took)
	return c.down(ctx)
}

// running measures what goes on in a machine that runs.
func (b *bench) running(ctx context.Context, c *container) error {
	if err := b.execs(ctx, c, execTrip); err != nil {
		return err
	}
	for _, size := range []int{64, 4} {
		for i := range 5 {
			rate, err := c.stdout(ctx, fmt.Sprintf("s%d-%d", size, i), size<<10)
			if err != nil {
				return err
			}
			b.report.add(fmt.Sprintf(stdout, size), rate/1e6)
		}
	}
	return nil
}

// since is the time that f takes.
func since(f func() error) (time.Duration, error) {
	begin := time.Now()
	err := f()
	return time.Since(begin), err
}

// execs times one process after the other.
func (b *bench) execs(ctx context.Context, c *container, name string) error {
	for i := range b.options.execs + 1 {
		took, err := c.exec(ctx, fmt.Sprintf("e%d", i))
		if err != nil {
			return err
		}
		if i > 0 {
			b.report.time(name, took)
		}
	}
	return nil
}
