// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The version is that of the module that the shim was built with.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir, "../containerd-shim-pod-v2")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	version, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", runcModule).Output()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "shim.toml")
	t.Setenv("BERTH_SHIM_CONFIG", conf)
	// The agent is read in the same way; it does not make a directory one of shims.
	agents := t.TempDir()
	for _, agent := range []string{filepath.Join(dir, "berth-agent"), filepath.Join(agents, "berth-agent")} {
		if err := os.Link(filepath.Join(dir, "containerd-shim-pod-v2"), agent); err != nil {
			t.Fatal(err)
		}
	}
	var out, stderr strings.Builder
	if err := runCheck([]string{"--dir", dir}, &out, &stderr); err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, name := range []string{"containerd-shim-pod-v2", "berth-agent"} {
		want += filepath.Join(dir, name) + " has runc's library " + strings.TrimPrefix(strings.TrimSpace(string(version)), "v") + "\n"
	}
	if !strings.Contains(out.String(), `runtime.driver is "native"`) || !strings.HasSuffix(out.String(), want) {
		t.Errorf("it says\n%swant, last,\n%s", out.String(), want)
	}

	if err := os.WriteFile(conf, []byte("[runtime]\ndriver = 'command'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := runCheck([]string{"--dir", dir}, &out, &stderr); err != nil || !strings.Contains(out.String(), "the runc in containerd's PATH") {
		t.Errorf("command: %v\n%s", err, out.String())
	}
	if err := runCheck([]string{"--dir", agents}, &out, &stderr); err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("without shims: %v", err)
	}
}
