// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrapRunc writes a runtime that notes its calls, and returns it, the notes, and a
// directory for its state.
func (h *host) wrapRunc(t *testing.T, name string) (program, notes, root string) {
	t.Helper()
	program, notes, root = filepath.Join(h.dir, name), filepath.Join(h.dir, name+".calls"), filepath.Join(h.dir, name+".root")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >>%s\nexec %s \"$@\"\n", notes, h.runc)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, notes, root
}

// wantCalls wants the runtime to have been called with a root that holds the state of
// the container, which runs, and ends it.
func (h *host) wantCalls(t *testing.T, id, notes, root string) {
	t.Helper()
	calls, err := os.ReadFile(notes)
	if err != nil || !strings.Contains(string(calls), "create") || !strings.Contains(string(calls), "--root "+root) {
		t.Errorf("calls of the runtime: %v\n%s", err, calls)
	}
	if state := filepath.Join(root, h.id, id, "state.json"); !exists(state) {
		t.Errorf("%s does not exist", state)
	}
	h.exec(t, id)
	h.remove(t, id)
	if state := filepath.Join(root, h.id, id); exists(state) {
		t.Errorf("%s is left", state)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// testConfigPath gives options in a file, which is what ctr can send to a shim that is
// not containerd's own.
func testConfigPath(t *testing.T, h *host) {
	program, notes, root := h.wrapRunc(t, "wrapped")
	file := filepath.Join(h.dir, "options.toml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "BinaryName = %q\nRoot = %q\nSystemdCgroup = false\n", program, root), 0o600); err != nil {
		t.Fatal(err)
	}
	h.runIdle(t, "config", "", "--runtime-config-path", file)
	h.wantCalls(t, "config", notes, root)
}

// testConfigTypo wants the name of an option that does not exist in the error.
func testConfigTypo(t *testing.T, h *host) {
	file := filepath.Join(h.dir, "typo.toml")
	if err := os.WriteFile(file, []byte("BinaryNam = 'runc'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, code, stderr := h.try(t, "ctr", h.runArgs("typo", "", []string{"-d", "--null-io", "--runtime-config-path", file}, idle)...)
	if code == 0 || !strings.Contains(stderr, "BinaryNam") || !strings.Contains(stderr, file) {
		t.Errorf("status %d, want an error that names BinaryNam and %s: %s", code, file, stderr)
	}
	h.forget(t, "typo")
}

// forget removes what ctr leaves of a container that could not be started.
func (h *host) forget(t *testing.T, id string) {
	t.Helper()
	if strings.Contains(h.ctr(t, "containers", "ls", "-q"), id) {
		h.ctr(t, "containers", "rm", id)
	}
}

// testDropIn runs the shim under the incumbent's name, with ctr's options for that. To
// any other shim ctr sends none: it refuses --runc-binary.
func testDropIn(t *testing.T, h *host) {
	program, notes, root := h.wrapRunc(t, "dropped")
	flags := []string{"--runtime", "io.containerd.runc.v2", "--runc-binary", program, "--runc-root", root}
	h.shimOf(t, h.runIdle(t, "dropin", "", flags...))
	h.wantCalls(t, "dropin", notes, root)
	_, code, stderr := h.try(t, "ctr", h.runArgs("refused", "", []string{"-d", "--null-io", "--runc-binary", program}, idle)...)
	if code == 0 || !strings.Contains(stderr, "runc-binary") {
		t.Errorf("status %d, want an error about --runc-binary: %s", code, stderr)
	}
	h.forget(t, "refused")
}
