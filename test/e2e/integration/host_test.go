// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// wantFile wants a file's content.
func wantFile(t *testing.T, file, want string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil || string(data) != want {
		t.Errorf("%s holds %q, %v; want %q", filepath.Base(file), data, err, want)
	}
}

// writeProgram writes a script and returns its path.
func writeProgram(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// exitCode is the status in an error of a command, 0 without error and -1 for others.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		return -1
	}
}

// cgroupFile reads a file of a process's cgroup: name1 in version 1, where it
// belongs to a controller, or name2 in the unified hierarchy.
func cgroupFile(t *testing.T, pid uint32, controller, name1, name2 string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(int(pid)), "cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if fields[1] == "" {
			unified = filepath.Join("/sys/fs/cgroup", fields[2], name2)
		}
		for _, c := range strings.Split(fields[1], ",") {
			if c == controller {
				return readTrimmed(t, filepath.Join("/sys/fs/cgroup", controller, fields[2], name1))
			}
		}
	}
	return readTrimmed(t, unified)
}

func readTrimmed(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
