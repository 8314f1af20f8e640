// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/test/e2e/image"
)

func (h *host) env() []string {
	path := strings.Join([]string{filepath.Join(h.dir, "bin"), filepath.Join(h.dir, "dropin"), h.version.dir, h.tools, os.Getenv("PATH")}, ":")
	var env []string
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "PATH", "TMPDIR", "NOTIFY_SOCKET", "INVOCATION_ID", "LISTEN_FDS", "LISTEN_PID":
		default:
			env = append(env, v)
		}
	}
	return append(env, "PATH="+path, "TMPDIR="+filepath.Join(h.dir, "tmp"),
		"CONTAINERD_ADDRESS="+h.address(), "CONTAINERD_NAMESPACE="+h.id, "CONTAINERD_SNAPSHOTTER="+h.snapshotter,
		"CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1",
		"CONTAINER_RUNTIME_ENDPOINT=unix://"+h.address(), "IMAGE_SERVICE_ENDPOINT=unix://"+h.address())
}

// loadImages imports the images for ctr and for CRI.
func (h *host) loadImages(t *testing.T) {
	t.Helper()
	busybox, err := image.FindBusybox()
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := image.Write(&archive, busybox); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(h.dir, "images.tar")
	if err := os.WriteFile(file, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"images", "import"}
	if h.version.major != "1" {
		// The transfer service unpacks for its own snapshotter only.
		args = append(args, "--local")
	}
	for _, namespace := range []string{h.id, "k8s.io"} {
		h.ctr(t, append(append([]string{"-n", namespace}, args...), file)...)
	}
}

// command prepares a program of the version that runs.
func (h *host) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	dir := h.version.dir
	if name == "crictl" {
		dir = h.tools
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, name), args...)
	cmd.Dir, cmd.Env = h.dir, h.env()
	return cmd
}

// try runs a program and returns its output, its status, and its stderr.
func (h *host) try(t *testing.T, name string, args ...string) (stdout string, code int, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, errs strings.Builder
	cmd := h.command(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s %s hangs\nstderr: %s\n%s", name, strings.Join(args, " "), errs.String(), h.logTail())
	}
	return out.String(), cmd.ProcessState.ExitCode(), errs.String()
}

// ctr runs ctr, which has to succeed, and returns its output.
func (h *host) ctr(t *testing.T, args ...string) string {
	t.Helper()
	out, code, stderr := h.try(t, "ctr", args...)
	if code != 0 {
		t.Fatalf("ctr %s: status %d\n%s%s\n%s", strings.Join(args, " "), code, out, stderr, h.logTail())
	}
	return out
}

// crictl runs crictl, which has to succeed, and returns its output, trimmed.
func (h *host) crictl(t *testing.T, args ...string) string {
	t.Helper()
	out, code, stderr := h.try(t, "crictl", append([]string{"--timeout", "50s"}, args...)...)
	if code != 0 {
		t.Fatalf("crictl %s: status %d\n%s%s\n%s", strings.Join(args, " "), code, out, stderr, h.logTail())
	}
	return strings.TrimSpace(out)
}

// await waits for a fact that nothing notifies of.
func (h *host) await(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !fact(); {
		if time.Now().After(deadline) {
			t.Fatalf("wait for %s: gave up after %v\n%s", what, patience, h.logTail())
		}
		<-time.After(10 * time.Millisecond)
	}
}

// logTail is the end of containerd's log.
func (h *host) logTail() string {
	data, err := os.ReadFile(h.logPath())
	if err != nil {
		return ""
	}
	lines := strings.SplitAfter(string(data), "\n")
	return fmt.Sprintf("containerd %s's log ends with:\n%s", h.version.name, strings.Join(lines[max(0, len(lines)-25):], ""))
}
