// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"berth/test/e2e/conformance/daemon"
)

// clones measures machines that are copies of a template.
func (b *bench) clones(ctx context.Context, d *daemon.Daemon) (retErr error) {
	first, _, err := up(ctx, d, "template", "hello") // has the template made
	if err != nil {
		return err
	}
	defer func() { retErr = errors.Join(retErr, b.templates(ctx, d, "drop")) }()
	if _, err := first.killMonitor(ctx); err != nil {
		return err
	}
	if err := errors.Join(first.down(ctx), b.templates(ctx, d, "wait")); err != nil {
		return err
	}
	for i := range b.options.boots + 1 {
		c, took, err := up(ctx, d, fmt.Sprintf("clone%d", i), "hello")
		if err != nil {
			return err
		}
		if i > 0 { // the first reads what the template's keeper has not read
			b.report.time(cloneBoot, took)
			for _, part := range []struct {
				name string
				line *regexp.Regexp
			}{{cloneCall, called}, {cloneWhole, answered}} {
				took, err := c.took(part.line)
				if err != nil {
					return err
				}
				b.report.time(part.name, took)
			}
		}
		if i == 1 {
			err = errors.Join(b.memory(ctx, c, cloned), b.execs(ctx, c, clonedExec))
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

// templates has berth do something about the daemon's templates.
func (b *bench) templates(ctx context.Context, d *daemon.Daemon, what string) error {
	cmd := exec.CommandContext(ctx, b.options.berth, "guest", "templates", what)
	cmd.Env = append(os.Environ(), "BERTH_VM_CONFIG="+d.VMConfig())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("berth guest templates %s: %w: %s", what, err, out)
	}
	return nil
}

// What the shim's log says, and since the wish for a machine: that a clone's agent
// has answered, and that the machine has all that it is to have.
var (
	called   = regexp.MustCompile(`the clone has answered its first call.* took=(\S+)`)
	answered = regexp.MustCompile(`the VM of the pod answers.* took=(\S+)`)
)

// took reads a time in the shim's log. A machine that booted and is no clone is an
// error, with the reason.
func (c *container) took(of *regexp.Regexp) (time.Duration, error) {
	log := c.bundle.Log()
	for line := range strings.Lines(log) {
		if strings.Contains(line, "not made of a template") {
			return 0, fmt.Errorf("no clone was made: %s", line)
		}
	}
	found := of.FindStringSubmatch(log)
	if found == nil {
		return 0, fmt.Errorf("the shim's log does not say when its machine answered:\n%s", log)
	}
	return time.ParseDuration(strings.Trim(found[1], `"`))
}
