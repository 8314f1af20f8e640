// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs is everything that is compiled for a run, in one private directory.
type programs struct {
	dir                                        string
	upstream, suite, testbin, payload, fakeoci string
	guestspec                                  string
}

// build compiles the test binaries and the programs that they need. The go
// command's cache makes all but the first time cheap.
func build(ctx context.Context, dir string) (*programs, error) {
	p := &programs{dir: dir}
	for _, target := range []struct {
		path   *string
		name   string
		static bool
		args   []string
	}{
		{&p.upstream, "upstream.test", false, []string{"test", "-c", "berth/test/e2e/conformance/upstream"}},
		{&p.suite, "suite.test", false, []string{"test", "-c", "berth/test/e2e/conformance/suite"}},
		{&p.testbin, "testbin", true, []string{"build", "-ldflags=-s -w", "github.com/containerd/shimtest/cmd/testbin"}},
		{&p.payload, "payload", true, []string{"build", "-ldflags=-s -w", "berth/test/e2e/conformance/payload"}},
		{&p.guestspec, "guestspec", true, []string{"build", "-ldflags=-s -w", "berth/test/e2e/conformance/guestspec"}},
		{&p.fakeoci, "fakeoci", true, []string{"build", "berth/test/fakeoci/cmd"}},
	} {
		*target.path = filepath.Join(dir, target.name)
		n := 1
		if target.args[0] == "test" {
			n = 2 // after -c
		}
		args := append(append([]string{}, target.args[:n]...), "-o", *target.path)
		cmd := exec.CommandContext(ctx, "go", append(args, target.args[n:]...)...)
		cmd.Env = os.Environ()
		if target.static {
			cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", target.name, err, out)
		}
	}
	return p, nil
}
