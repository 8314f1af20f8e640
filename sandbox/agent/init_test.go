// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What Init does is tested in a guest (sandbox/vm); here it must do nothing.
func TestInitIsForPID1(t *testing.T) {
	if port, err := Init(io.Discard); err == nil || !strings.Contains(err.Error(), "PID 1") {
		t.Errorf("it began: %v, %v", port, err)
	}
}

func TestFindPort(t *testing.T) {
	class := t.TempDir()
	put := func(port, name string) {
		t.Helper()
		dir := filepath.Join(class, port)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "" { // as the kernel makes it, before the device has told the name
			return
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got, err := findPort(class, "agent"); got != want || err != nil {
			t.Errorf("the port is %q (%v), want %q", got, err, want)
		}
	}
	expect("")
	put("vport0p0", "")
	put("vport0p1", "agent2")
	expect("")
	put("vport0p2", "agent")
	expect("/dev/vport0p2")
}

func TestLoadModulesSaysWhich(t *testing.T) {
	dir := t.TempDir()
	if err := loadModules(dir, io.Discard); err == nil || !strings.Contains(err.Error(), "list of modules") {
		t.Errorf("without a list: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "order"), []byte("virtio.ko\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := loadModules(dir, io.Discard); err == nil || !strings.Contains(err.Error(), "virtio.ko") {
		t.Errorf("without the module: %v", err)
	}
}
