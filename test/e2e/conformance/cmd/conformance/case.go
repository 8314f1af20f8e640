// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// verdict of one test for one shim; a greater one is better.
type verdict int

const (
	hang    verdict = iota // no result within the test's limit, or a crash of the test program
	fail                   // as the test says
	skip                   // as the test says
	leak                   // passed and left a shim, a process, a mount or a cgroup
	pass                   // as the test says
	missing verdict = -1   // the test did not run at all
)

func (v verdict) String() string {
	return map[verdict]string{hang: "HANG", fail: "FAIL", skip: "skip", leak: "leak", pass: "pass", missing: "-"}[v]
}

// testCase is one process of a compiled test binary, for one shim.
type testCase struct {
	binary string
	args   []string
	env    []string
	limit  time.Duration // then it is killed
	guest  *guest        // for a shim whose containers are in machines
	own    bool          // of the project's own suite
}

// outcome is what a case's process printed, by test name, and what it left.
type outcome struct {
	name     string // of the run, which upstream tests have in theirs
	verdicts map[string]verdict
	output   string
	left     string // what had to be cleaned away, in words
	hung     bool
}

var resultLine = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+)`)
var startLine = regexp.MustCompile(`(?m)^=== RUN\s+(\S+)`)

// runCase runs the case in a private directory, which is also its TMPDIR and
// holds a copy of the shim: processes are told apart from those of others by
// that path, here and in the upstream leak check, and cgroups by its last part,
// which no other case has at the same time.
func runCase(ctx context.Context, c testCase, shim, runtimeDir string) (*outcome, error) {
	dir, err := os.MkdirTemp("", "bc")
	if err != nil {
		return nil, err
	}
	name, bin := filepath.Base(dir), filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return nil, err
	}
	private := filepath.Join(bin, filepath.Base(shim))
	if c.guest != nil {
		c.env, err = c.guest.install(dir, bin, shim, c.env)
	} else {
		err = copyProgram(shim, private)
	}
	if err != nil {
		return nil, fmt.Errorf("copy the shim: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, c.binary, append([]string{"-test.v", "-shim", private, "-name", name}, c.args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "PATH="+bin+":"+runtimeDir+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, c.env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second // a shim that inherited our pipe must not hold us
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, fmt.Errorf("run %s: %w", c.binary, err)
	}
	o := &outcome{name: name, output: output.String(), hung: ctx.Err() != nil, verdicts: parse(output.String())}
	left, err := sweep(dir)
	if err != nil {
		return nil, fmt.Errorf("clean up after %s: %w", filepath.Base(c.binary), err)
	}
	o.left = left
	return o, nil
}

// parse reads the verbose output of a test binary. A test that began and has no
// result hung, or the program crashed under it.
func parse(output string) map[string]verdict {
	verdicts := map[string]verdict{}
	for _, m := range startLine.FindAllStringSubmatch(output, -1) {
		verdicts[m[1]] = hang
	}
	for _, m := range resultLine.FindAllStringSubmatch(output, -1) {
		verdicts[m[2]] = map[string]verdict{"PASS": pass, "FAIL": fail, "SKIP": skip}[m[1]]
	}
	return verdicts
}

// verdict is that of a test; of an outcome that is nil, or that does not have
// the test, it is that it did not run.
func (o *outcome) verdict(name string) verdict {
	if o != nil {
		if v, ran := o.verdicts[name]; ran {
			return v
		}
	}
	return missing
}

// leaves returns the names without subtests, in order of appearance.
func leaves(o *outcome) []string {
	var names []string
	for _, m := range startLine.FindAllStringSubmatch(o.output, -1) {
		names = append(names, m[1])
	}
	var out []string
	for _, name := range names {
		isParent := false
		for _, other := range names {
			isParent = isParent || strings.HasPrefix(other, name+"/")
		}
		if !isParent {
			out = append(out, name)
		}
	}
	return out
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
