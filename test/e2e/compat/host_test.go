// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	t.Cleanup(func() { h.takeApart(t) })
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
	return h
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
