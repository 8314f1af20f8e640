// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLibcRunsTheDriversPrograms has a program that is linked as nvidia-smi is
// run with nothing but what is in the image. The fake nvidia-smi needs nothing.
func TestLibcRunsTheDriversPrograms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root, for chroot(2)")
	}
	dir := filepath.Join(t.TempDir(), "root")
	if err := libc(dir); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(t.TempDir(), "program.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { puts(\"runs\"); return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	needed := []string{"-Wl,--no-as-needed", "-lpthread", "-lm", "-ldl", "-lrt"}
	if out, err := exec.Command("cc", append([]string{"-o", dir + "/bin/program", source}, needed...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("/bin/sh", "-c", "ls /bin | grep program && exec /bin/program")
	cmd.Env, cmd.Dir = []string{"PATH=/bin"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: dir}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "runs\n") {
		t.Errorf("%v: %s", err, out)
	}
}
