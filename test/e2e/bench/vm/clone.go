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
			call, err := c.firstCall()
			if err != nil {
				return err
			}
			b.report.time(cloneBoot, took)
			b.report.time(cloneCall, call)
		}
		if i == 1 {
			err = b.memory(ctx, c, cloned)
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

var answered = regexp.MustCompile(`the VM of the pod answers.* took=(\S+)`)

// firstCall is how long it took from the wish for a machine to its first answer,
// by the shim's log. A machine that booted instead is an error, with the reason.
func (c *container) firstCall() (time.Duration, error) {
	log := c.bundle.Log()
	for line := range strings.Lines(log) {
		if strings.Contains(line, "not made of a template") {
			return 0, fmt.Errorf("no clone was made: %s", line)
		}
	}
	found := answered.FindStringSubmatch(log)
	if found == nil {
		return 0, fmt.Errorf("the shim's log does not say when its machine answered:\n%s", log)
	}
	return time.ParseDuration(strings.Trim(found[1], `"`))
}
