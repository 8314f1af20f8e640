// SPDX-License-Identifier: Apache-2.0

package fakeoci

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Build compiles the runtime into a directory of the test and returns its path. The go
// command's cache makes all but the first build cheap. It uses os/exec, so a program whose
// supervisor reaps orphans must call it before that.
func Build(tb testing.TB) string {
	tb.Helper()
	return BuildAt(tb, tb.TempDir())
}

// BuildAt is Build for a TestMain or a directory shared by tests.
func BuildAt(tb testing.TB, dir string) string {
	tb.Helper()
	bin, err := Compile(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}

// readyVariable names a ready binary, for a machine without the go command.
const readyVariable = "BERTH_FAKEOCI"

// Compile builds the runtime in dir, for a TestMain, which has no testing.TB. The binary that
// the environment variable BERTH_FAKEOCI names is taken instead.
func Compile(dir string) (string, error) {
	if ready := os.Getenv(readyVariable); ready != "" {
		return ready, nil
	}
	bin := filepath.Join(dir, "fakeoci")
	cmd := exec.Command("go", "build", "-o", bin, "berth/test/fakeoci/cmd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // static: it also runs in an empty rootfs
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", &buildError{err: err, out: string(out)}
	}
	return bin, nil
}

type buildError struct {
	err error
	out string
}

func (e *buildError) Error() string {
	return "build fakeoci: " + e.err.Error() + ": " + strings.TrimSpace(e.out)
}

func (e *buildError) Unwrap() error { return e.err }

// Write puts the plan into a bundle, or into a --root, in one step.
func (p Plan) Write(tb testing.TB, dir string) {
	tb.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, PlanFile)
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		tb.Fatal(err)
	}
}

// Calls reads the call log that lies in a bundle or under a --root.
func Calls(tb testing.TB, dir string) []Call {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(dir, LogFile))
	if err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	var calls []Call
	for line := range bytes.Lines(data) {
		var c Call
		if err := json.Unmarshal(line, &c); err != nil {
			tb.Fatalf("call log %s: %v", dir, err)
		}
		calls = append(calls, c)
	}
	return calls
}

// Begun counts the calls of a verb, or of one exec as "exec:ID", that have begun.
func Begun(calls []Call, key string) int {
	n := 0
	for _, c := range calls {
		if c.Phase == "begin" && (c.Key == key || c.Verb == key) {
			n++
		}
	}
	return n
}
