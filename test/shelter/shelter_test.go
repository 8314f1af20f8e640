// SPDX-License-Identifier: Apache-2.0

package shelter

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// leaves has this program be tests that leave something, and end in that way.
const leaves = "BERTH_TEST_SHELTER_LEAVES"

func TestMain(m *testing.M) {
	how := os.Getenv(leaves)
	if how == "" {
		os.Exit(Main(m.Run))
	}
	os.Exit(Main(func() int { return leave(how) }))
}

func TestShelter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root")
	}
	for _, path := range []string{"/etc/berth-test", "/usr/berth-test"} {
		err := os.WriteFile(path, nil, 0o600)
		if err == nil {
			_ = os.Remove(path)
		}
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// leave makes a file and a cgroup with a process in it, and says where they are.
func leave(how string) int {
	file, err := os.CreateTemp("", "left")
	if err != nil {
		panic(err)
	}
	hierarchy := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(hierarchy + "/cgroup.procs"); err != nil {
		hierarchy = "/sys/fs/cgroup" // v2
	}
	cgroup := filepath.Join(hierarchy, fmt.Sprintf("berth-shelter-%d-test", os.Getpid()))
	sleep := exec.Command("sleep", "1000")
	err = errors.Join(os.Mkdir(cgroup, 0o755), sleep.Start())
	if err == nil {
		err = os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), fmt.Append(nil, sleep.Process.Pid), 0)
	}
	if err != nil {
		panic(err)
	}
	fmt.Println(file.Name(), cgroup)
	switch how {
	case "panic":
		panic("as a test does whose time is over")
	case "signal":
		_ = unix.Pause()
	}
	return 0
}

// However tests end that leave something, nothing is there then, and they have failed.
func TestNothingIsLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root")
	}
	for _, how := range []string{"pass", "panic", "signal"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, inside+"=") })
			cmd.Env = append(cmd.Env, leaves+"="+how)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			said, err := lines.ReadString('\n')
			if err == nil && how == "signal" {
				err = cmd.Process.Signal(unix.SIGTERM)
			}
			_, _ = io.Copy(io.Discard, lines)
			if code := cmd.Wait(); code == nil {
				t.Error("they have passed")
			}
			left := strings.Fields(said)
			if err != nil || len(left) != 2 {
				t.Fatalf("they say %q, %v", said, err)
			}
			for _, path := range left {
				if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is left: %v", path, err)
				}
			}
		})
	}
}
