// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	wire "berth/gpu/nvml"
	"berth/test/fakenvml"
	"berth/test/leak"
	"berth/test/shelter"
)

// What all tests share: the unmodified helper, linked as the Makefile links it; one that dies where
// it is told to; and the fake.
var helper, mortal, library string

func TestMain(m *testing.M) {
	os.Exit(shelter.Main(func() int { return testMain(m) }))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "berth-gpu-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	helper = filepath.Join(dir, "berth-gpu")
	out, err := build(helper)
	if err == nil {
		mortal = filepath.Join(dir, "mortal")
		overlay := filepath.Join(dir, "overlay.json")
		here, _ := os.Getwd()
		text := fmt.Sprintf(`{"Replace":{"%s/step.go":"%s/testdata/step.go"}}`, here, here)
		if err = os.WriteFile(overlay, []byte(text), 0o600); err == nil {
			out, err = build(mortal, "-overlay", overlay)
		}
	}
	if err == nil {
		library, err = fakenvml.Build(dir)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return leak.Main(m)
}

func build(path string, flags ...string) ([]byte, error) {
	args := append([]string{"build", "-ldflags", `-extldflags "-Wl,-z,lazy"`, "-o", path}, flags...)
	return exec.Command("go", append(args, ".")...).CombinedOutput()
}

// machine writes a state and returns the environment that names it.
func machine(t *testing.T, s fakenvml.State) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := s.Write(path); err != nil {
		t.Fatal(err)
	}
	return []string{"BERTH_FAKE_NVML=" + path}
}

type result struct {
	list   *wire.List // nil unless the exit status is 0
	failed *wire.Error
	code   int
	stderr string
}

// ask runs the helper as the shim does: an environment of our own, in the root folder.
func ask(t testing.TB, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, helper, args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, "/", &stdout, &stderr
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{code: cmd.ProcessState.ExitCode(), stderr: stderr.String(), failed: wire.DecodeError(stderr.Bytes())}
	if r.code == 0 {
		var err error
		if r.list, err = wire.Decode(stdout.Bytes()); err != nil {
			t.Fatalf("%v\n%s", err, stdout.Bytes())
		}
		if stderr.Len() > 0 {
			t.Errorf("on stderr: %s", stderr.String())
		}
	} else if stdout.Len() > 0 {
		t.Errorf("exit status %d, and on stdout: %s", r.code, stdout.Bytes())
	}
	return r
}

// listed is the list of a machine that must have one, as a library sees it.
func listed(t *testing.T, lib string, s fakenvml.State) *wire.List {
	t.Helper()
	r := ask(t, machine(t, s), "list", "--library", lib)
	if r.list == nil {
		t.Fatalf("exit status %d: %s", r.code, r.stderr)
	}
	return r.list
}
