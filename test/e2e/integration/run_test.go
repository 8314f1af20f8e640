// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/pkg/cio"

	"berth/test/e2e/image"
)

func TestRun(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}})
		if code := c.run(ctx, t); code != 3 {
			t.Errorf("status %d, want 3", code)
		}
		if c.stdout.String() != "out\n" || c.stderr.String() != "err\n" {
			t.Errorf("stdout %q, stderr %q", c.stdout, c.stderr)
		}
	})
}

// TestBurst wants all of the output that a container wrote just before its end.
func TestBurst(t *testing.T) {
	const size = 8 << 20
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: []string{"head", "-c", "8388608", "/dev/zero"}})
		if code := c.run(ctx, t); code != 0 {
			t.Errorf("status %d", code)
		}
		if got := len(c.stdout.String()); got != size {
			t.Errorf("%d bytes of output, want %d", got, size)
		}
	})
}

// TestRoundTrip sends data through a container and wants it back.
func TestRoundTrip(t *testing.T) {
	data := make([]byte, 20<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		// head ends when it has all, because a client's end of input reaches a container by CloseIO alone.
		c := create(ctx, t, shared, r, request{args: []string{"head", "-c", "20971520"}, stdin: bytes.NewReader(data)})
		if code := c.run(ctx, t); code != 0 {
			t.Errorf("status %d", code)
		}
		if got := []byte(c.stdout.String()); sha256.Sum256(got) != sha256.Sum256(data) {
			t.Errorf("%d bytes came back of %d, or others", len(got), len(data))
		}
	})
}

// TestLogFile gives a container a file for its output.
func TestLogFile(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		file := t.TempDir() + "/log"
		c := create(ctx, t, shared, r, request{args: []string{"sh", "-c", "echo out; echo err >&2"}, io: cio.LogFile(file)})
		if code := c.run(ctx, t); code != 0 {
			t.Errorf("status %d", code)
		}
		// Two pipes lead to the file, so the order is not the container's.
		if got := readTrimmed(t, file); got != "out\nerr" && got != "err\nout" {
			r.known(t, "the file is sometimes closed under the second stream")
			t.Errorf("log holds %q", got)
		}
	})
}

// TestLogger gives a container a program for its output.
func TestLogger(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		dir := t.TempDir()
		// A logger gets stdout as 3 and stderr as 4, and closes 5 when it is ready.
		program := writeProgram(t, dir+"/logger", `#!/bin/sh
exec 5>&-
cat <&3 >"$2.out" &
cat <&4 >"$2.err"
wait
`)
		log := cio.BinaryIO(program, map[string]string{"to": dir + "/log"})
		c := create(ctx, t, shared, r, request{args: []string{"sh", "-c", "echo out; echo err >&2"}, io: log})
		if code := c.run(ctx, t); code != 0 {
			t.Errorf("status %d", code)
		}
		wantFile(t, dir+"/log.out", "out\n")
		wantFile(t, dir+"/log.err", "err\n")
	})
}

// TestCtr runs containers as an operator does.
func TestCtr(t *testing.T) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		id := identifier(t)
		out, err := shared.Ctr(ctx, "run", "--rm", "--runtime", r.name, "--fifo-dir", shared.FIFODir(), image.Demo, id, "sh", "-c", "echo out; exit 4")
		if out != "out\n" || exitCode(err) != 4 {
			t.Errorf("ctr run: output %q, %v; want status 4", out, err)
		}
		// head, because ctr may lose an end of input that comes before the task has started.
		cmd := shared.Command(ctx, "ctr", "run", "--rm", "--runtime", r.name, "--fifo-dir", shared.FIFODir(), image.Demo, id, "head", "-n", "1")
		cmd.Stdin = strings.NewReader("through head\n")
		if out, err := shared.Run(cmd); out != "through head\n" || err != nil {
			t.Errorf("ctr run with input: output %q, %v", out, err)
		}
	})
}
