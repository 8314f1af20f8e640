// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/test/e2e/image"
	"berth/test/e2e/node"
)

var shimFlag = flag.String("shim", "", "the shim to test instead of bin/containerd-shim-pod-v2")

// patience bounds every wait for a fact; a loaded machine of two cores needs seconds.
const patience = 60 * time.Second

// host is one root and state on which one containerd after the other runs. Everything
// of it carries its id, which is also its containerd namespace and its parent cgroup.
type host struct {
	id, dir     string
	shim        string // a copy: the original may be rebuilt meanwhile
	runc        string
	tools       string
	snapshotter string
	version     version
	cmd         *exec.Cmd
	exited      chan error
	sockets     map[string]bool      // of all shims that were seen
	leak        func(string, ...any) // reports a leftover
}

// newHost lays out a host; nothing runs on it yet. It is taken apart, and looked
// through for leftovers, at the end of the test.
func newHost(t *testing.T) *host {
	t.Helper()
	checkout, err := node.Checkout()
	if err != nil {
		t.Fatal(err)
	}
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		t.Fatal(err)
	}
	h := &host{id: "berth-compat-" + hex.EncodeToString(random[:]), snapshotter: "overlayfs", sockets: map[string]bool{}}
	h.dir = filepath.Join("/tmp", h.id)
	h.tools = filepath.Join(checkout, ".tools", "bin")
	h.runc = filepath.Join(h.tools, "runc")
	for _, dir := range []string{"", "root", "state", "tmp", "bin", "dropin", "fifo", "runc", "pods"} {
		if err := os.Mkdir(filepath.Join(h.dir, dir), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(h.dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		h.snapshotter = "native" // the kernel stacks no writable overlay on an overlay
	}
	shim := *shimFlag
	if shim == "" {
		shim = filepath.Join(checkout, "bin", "containerd-shim-pod-v2")
	}
	h.shim = filepath.Join(h.dir, "bin", "containerd-shim-pod-v2")
	program, err := os.ReadFile(shim)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.shim, program, 0o755); err != nil {
		t.Fatal(err)
	}
	// Under the incumbent's name, ctr sends the incumbent's options.
	if err := os.Symlink(h.shim, filepath.Join(h.dir, "dropin", "containerd-shim-runc-v2")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.takeApart(t) })
	return h
}

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

func (h *host) address() string { return filepath.Join(h.dir, "c.sock") }

func (h *host) logPath() string { return filepath.Join(h.dir, "containerd.log") }

// start runs a version of containerd and waits until it serves. It dies with this process.
func (h *host) start(t *testing.T, v version) {
	t.Helper()
	h.version = v
	h.writeConfig(t, v)
	log, err := os.OpenFile(h.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	h.cmd = exec.Command(filepath.Join(v.dir, "containerd"), "--config", filepath.Join(h.dir, "config.toml"))
	h.cmd.Dir, h.cmd.Env, h.cmd.Stdout, h.cmd.Stderr = h.dir, h.env(), log, log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited, cmd := make(chan error, 1), h.cmd
	h.exited = exited
	go func() { exited <- cmd.Wait() }()
	h.await(t, "containerd "+v.name+" to serve", func() bool {
		select {
		case err := <-exited:
			t.Fatalf("containerd %s ended: %v\n%s", v.name, err, h.logTail())
		default:
		}
		data, err := os.ReadFile(h.logPath())
		return err == nil && bytes.Contains(data[begin:], []byte("containerd successfully booted"))
	})
}

// stop ends containerd with a signal; shims and containers go on.
func (h *host) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	h.noteSockets(t)
	if h.cmd == nil {
		return
	}
	if err := h.cmd.Process.Signal(signal); err != nil {
		t.Errorf("stop containerd: %v", err)
	}
	select {
	case <-h.exited:
	case <-time.After(patience):
		t.Errorf("containerd %s does not end by %v", h.version.name, signal)
		_ = h.cmd.Process.Kill()
		<-h.exited
	}
	h.cmd = nil
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
