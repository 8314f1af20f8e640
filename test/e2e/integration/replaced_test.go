// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/opencontainers/runtime-spec/specs-go"

	"berth/test/e2e/node"
)

// TestReplacedShim replaces the program of a shim that runs, as an upgrade does.
// The view of its file, which cannot be written, is then not to be had, and each
// exec is of a sealed copy in memory. A hostile container tries to overwrite it
// (CVE-2019-5736), and does overwrite a program of its own.
func TestReplacedShim(t *testing.T) {
	if !strings.Contains(*runtimes, node.PodRuntime) {
		t.Skip("the pod shim is not among the runtimes under test")
	}
	checkout := must(node.Checkout())(t)
	program := must(os.ReadFile(filepath.Join(checkout, "bin", "containerd-shim-pod-v2")))(t)
	dir := t.TempDir()
	shim, old := filepath.Join(dir, "containerd-shim-pod-v2"), filepath.Join(dir, "old")
	for _, file := range []string{shim, filepath.Join(dir, "new")} {
		if err := os.WriteFile(file, program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(shim, old); err != nil { // it is looked at after it has lost its name
		t.Fatal(err)
	}
	attack := hostile(t, checkout, dir)

	ctx := testContext(t, shared)
	out := newOutput()
	c := create(ctx, t, shared, runtimeCase{name: shim}, request{
		args: []string{"/attack"}, io: streamsTo(shared, nil, out, out, false),
		spec: []oci.SpecOpts{oci.WithPrivileged, oci.WithMounts([]specs.Mount{
			{Type: "proc", Source: "proc", Destination: "/proc"},
			{Type: "bind", Source: attack, Destination: "/attack", Options: []string{"bind", "ro"}},
		})},
	})
	exit := start(ctx, t, c.task)
	out.await(ctx, t, "ready\n")
	if err := os.Rename(filepath.Join(dir, "new"), shim); err != nil {
		t.Fatal(err)
	}
	const sealed = "opened /memfd:runc_cloned"
	for i := 0; !strings.Contains(out.String(), sealed); i++ {
		if got, code := c.exec1(ctx, t, fmt.Sprint("enter", i), nil, "echo", "hello"); got != "hello\n" || code != 0 {
			t.Fatalf("exec says %q, status %d", got, code)
		}
	}
	// What the container executes is then the copy itself, which ends by itself.
	for i := range 5 {
		c.exec1(ctx, t, fmt.Sprint("self", i), nil, "/proc/self/exe", "init")
	}
	const victim = "/sleep" // busybox goes by its name
	if got, code := c.exec1(ctx, t, "copy", nil, "cp", "/bin/busybox", victim); code != 0 {
		t.Fatalf("copy a victim: status %d: %s", code, got)
	}
	p, victimExit := c.exec(ctx, t, "victim", streamsTo(shared, nil, newOutput(), newOutput(), false), victim, "1000")
	out.await(ctx, t, "opened "+victim+"\n")
	kill(ctx, t, p, syscall.SIGKILL)
	status(ctx, t, victimExit)
	if _, err := p.Delete(ctx); err != nil {
		t.Errorf("delete exec: %v", err)
	}
	out.await(ctx, t, "wrote "+victim+"\n")
	t.Logf("the container: %s", strings.ReplaceAll(strings.TrimSpace(out.String()), "\n", ", "))
	if strings.Count(out.String(), "wrote ") != 1 {
		t.Error("the container has overwritten more than what is its own")
	}
	for _, file := range []string{old, shim} {
		if now := must(os.ReadFile(file))(t); sha256.Sum256(now) != sha256.Sum256(program) {
			t.Errorf("%s has changed", filepath.Base(file))
		}
	}
	kill(ctx, t, c.task, syscall.SIGKILL)
	c.delete(ctx, t, status(ctx, t, exit))
}

// hostile is the program of a container that attacks its shim: built here, unless
// BERTH_ATTACK names one, on a machine without a compiler.
func hostile(t *testing.T, checkout, dir string) string {
	t.Helper()
	if attack := os.Getenv("BERTH_ATTACK"); attack != "" {
		return attack
	}
	attack := filepath.Join(dir, "attack")
	build := exec.Command("go", "build", "-C", checkout, "-o", attack, "./process/native/testdata/attack")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the attack: %v: %s", err, out)
	}
	return attack
}
