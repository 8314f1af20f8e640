// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// The archive is read by another implementation, as the kernel would read it.
func TestCPIO(t *testing.T) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox is not installed: nothing else here reads a cpio archive")
	}
	var archive bytes.Buffer
	err = writeCPIO(&archive, []file{
		{path: "etc/odd", mode: modeRegular | 0o644, data: []byte("12345")},
		{path: "init", mode: modeRegular | 0o755, data: []byte("1234")},
		{path: "etc", mode: modeDir | 0o755},
		{path: "console", mode: modeChar | 0o600, major: 5, minor: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(busybox, "cpio", "-idm")
	cmd.Dir, cmd.Stdin = dir, &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(busybox, "sh", "-c", `cd "$0" && TZ=UTC stat -c '%N %F %a %u:%g %s %t,%T %Y' console etc etc/odd init`, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := strings.ReplaceAll(string(out), "'", "")
	for _, want := range []string{
		"console character special file 600 0:0 0 5,1 0",
		"etc directory 755 0:0 ", "etc/odd regular file 644 0:0 5 0,0 0", "init regular file 755 0:0 4 0,0 0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
