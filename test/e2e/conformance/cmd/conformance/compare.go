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
	"sync"
	"time"
)

// Limits for one process of a test binary. They turn a hang into a verdict; the
// slowest upstream test takes 5 s on two cores.
const (
	upstreamLimit = 45 * time.Second
	netLimit      = 15 * time.Second // the control hangs in these, and they move a few bytes
	ownLimit      = 5 * time.Minute
	longLimit     = 15 * time.Minute
)

// compare builds everything, runs every test against the shims and prints the
// table. The error says what makes the run a failure.
func compare(ctx context.Context, o options, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "berth-conformance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.command { // upstream tests name no runtime
		conf := filepath.Join(dir, "shim.toml")
		if err := os.WriteFile(conf, []byte("[runtime]\ndriver = 'command'\n"), 0o644); err != nil {
			return err
		}
		if err := os.Setenv("BERTH_SHIM_CONFIG", conf); err != nil {
			return err
		}
	}
	p, err := build(ctx, dir)
	if err != nil {
		return err
	}
	t := newTable(o, out)
	for _, test := range append(append([]upstreamTest{}, upstreamTests...), stressTests(o)...) {
		if err := t.upstream(ctx, p, test); err != nil {
			return err
		}
	}
	names, err := ownTests(ctx, p)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := t.own(ctx, p, name); err != nil {
			return err
		}
	}
	return t.judge()
}

func stressTests(o options) []upstreamTest {
	if o.stress == 0 {
		return nil
	}
	return upstreamStress
}

// ownTests asks the suite's binary for its tests.
func ownTests(ctx context.Context, p *programs) ([]string, error) {
	list, err := exec.CommandContext(ctx, p.suite, "-test.list", ".").Output()
	if err != nil {
		return nil, fmt.Errorf("list the own tests: %w", err)
	}
	names := strings.Fields(string(list))
	if len(names) == 0 {
		return nil, errors.New("the own suite has no tests")
	}
	return names, nil
}

// outcomes are those of one case; nil for a shim that it was not run against.
type outcomes struct{ shim, control, vm *outcome }

// all runs one case against the shims at the same time: they are different
// programs, and there are two cores. The vm shim comes after them, alone: an
// emulated machine takes a core.
func (t *table) all(ctx context.Context, c testCase, g *guest) (o outcomes, err error) {
	var group sync.WaitGroup
	var shimErr, controlErr, vmErr error
	runtimeDir := filepath.Dir(t.options.runtime)
	ofShim := c
	if c.own {
		c.args = append(slices.Clone(c.args), "-runtime", t.options.runtime)
		if t.options.command {
			ofShim.args = c.args
		}
	}
	group.Go(func() { o.shim, shimErr = runCase(ctx, ofShim, t.options.shim, runtimeDir) })
	if t.options.control != "" {
		group.Go(func() { o.control, controlErr = runCase(ctx, c, t.options.control, runtimeDir) })
	}
	group.Wait()
	if g != nil {
		c.limit, c.guest = c.limit*guestSlowness, g
		c.args = append(c.args, g.args...)
		o.vm, vmErr = runCase(ctx, c, t.options.vm, runtimeDir)
	}
	return o, errors.Join(shimErr, controlErr, vmErr, ctx.Err())
}

// upstream runs one upstream test. Its subtests are folded into it; what its
// suite says after it passed is that a shim leaked.
func (t *table) upstream(ctx context.Context, p *programs, test upstreamTest) error {
	name := test.suite + "/" + test.test
	if !t.wanted("upstream " + name) {
		return nil
	}
	limit := upstreamLimit
	if test.suite == "net" {
		limit = netLimit
	}
	timeout := limit - 5*time.Second
	if test.suite == "stress" {
		timeout = t.options.stress + time.Minute // the test stops a minute before
		limit = timeout + 10*time.Second
	}
	c := testCase{
		binary: p.upstream,
		args: []string{"-test.run", "^TestShim$/./^" + test.suite + "$/^" + test.test + "$", // in between is the case's name
			"-test.timeout", timeout.String()},
		env:   []string{"SHIMTEST_TESTBIN=" + p.testbin},
		limit: limit,
	}
	o, err := t.all(ctx, c, t.upstreamGuest(p, test, timeout))
	if err != nil {
		return err
	}
	t.add(row{
		name: "upstream " + name, shim: upstreamVerdict(o.shim, name), control: upstreamVerdict(o.control, name), vm: upstreamVerdict(o.vm, name),
	}, o)
	return nil
}

func upstreamVerdict(o *outcome, name string) verdict {
	if o == nil {
		return missing
	}
	v, ran := o.verdicts["TestShim/"+o.name+"/"+name]
	if !ran {
		return missing
	}
	if v == pass && (o.left != "" || o.verdicts["TestShim"] == fail) {
		return leak
	}
	return v
}

// own runs one test of the project's own, whose subtests are rows.
func (t *table) own(ctx context.Context, p *programs, name string) error {
	if !t.wanted("own " + name) {
		return nil
	}
	c := testCase{
		binary: p.suite,
		args:   []string{"-test.run", "^" + name + "$", "-payload", p.payload, "-fakeoci", p.fakeoci},
		own:    true,
		limit:  ownLimit,
	}
	if t.options.long {
		c.limit = longLimit
		c.args = append(c.args, "-long")
	}
	c.args = append(c.args, "-test.timeout", (c.limit - 5*time.Second).String())
	o, err := t.all(ctx, c, t.ownGuest("own "+strings.TrimPrefix(name, "Test")))
	if err != nil {
		return err
	}
	of := leaves(o.shim)
	if len(of) == 0 {
		of = []string{name}
	}
	for _, leaf := range of {
		t.add(row{
			name: "own " + strings.TrimPrefix(leaf, "Test"), own: true,
			shim: o.shim.verdict(leaf), control: o.control.verdict(leaf), vm: o.vm.verdict(leaf),
		}, o)
	}
	return nil
}
