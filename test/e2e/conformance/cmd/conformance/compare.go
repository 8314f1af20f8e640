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

// compare builds everything, runs every test against both shims and prints the
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

// both runs one case against the two shims at the same time: they are
// different programs, and there are two cores.
func (t *table) both(ctx context.Context, c testCase) (shim, control *outcome, err error) {
	var group sync.WaitGroup
	var shimErr, controlErr error
	runtimeDir := filepath.Dir(t.options.runtime)
	ofShim := c
	if c.own {
		c.args = append(slices.Clone(c.args), "-runtime", t.options.runtime)
		if t.options.command {
			ofShim.args = c.args
		}
	}
	group.Go(func() { shim, shimErr = runCase(ctx, ofShim, t.options.shim, runtimeDir) })
	if t.options.control != "" {
		group.Go(func() { control, controlErr = runCase(ctx, c, t.options.control, runtimeDir) })
	}
	group.Wait()
	return shim, control, errors.Join(shimErr, controlErr, ctx.Err())
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
		args: []string{"-test.run", "^TestShim$/^" + test.suite + "$/^" + test.test + "$",
			"-test.timeout", timeout.String()},
		env:   []string{"SHIMTEST_TESTBIN=" + p.testbin},
		limit: limit,
	}
	shim, control, err := t.both(ctx, c)
	if err != nil {
		return err
	}
	full := "TestShim/" + name
	t.add(row{name: "upstream " + name, shim: upstreamVerdict(shim, full), control: upstreamVerdict(control, full)}, shim, control)
	return nil
}

func upstreamVerdict(o *outcome, name string) verdict {
	if o == nil {
		return missing
	}
	v, ran := o.verdicts[name]
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
	shim, control, err := t.both(ctx, c)
	if err != nil {
		return err
	}
	for _, leaf := range leaves(shim) {
		r := row{name: "own " + strings.TrimPrefix(leaf, "Test"), own: true, shim: shim.verdicts[leaf], control: missing}
		if control != nil {
			if v, ran := control.verdicts[leaf]; ran {
				r.control = v
			}
		}
		t.add(r, shim, control)
	}
	if len(leaves(shim)) == 0 {
		t.add(row{name: "own " + strings.TrimPrefix(name, "Test"), own: true, shim: missing, control: missing}, shim, control)
	}
	return nil
}
