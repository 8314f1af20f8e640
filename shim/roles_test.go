// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
)

func shimCommand(stdin []byte, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"=shim", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = bytes.NewReader(stdin)
	return cmd
}

func TestInfo(t *testing.T) {
	options := asAny(t, runcOptionsName, &runcoptions.Options{BinaryName: "crun"})
	stdout, stderr, err := run(shimCommand(marshal(t, options), "-info"))
	if err != nil || stderr != "" {
		t.Fatalf("%v; %s", err, stderr)
	}
	info := new(types.RuntimeInfo)
	if err := proto.Unmarshal([]byte(stdout), info); err != nil {
		t.Fatal(err)
	}
	if info.GetName() != testRuntime || info.GetVersion().GetVersion() != "v1.2.3" || info.GetVersion().GetRevision() != "abc" ||
		!proto.Equal(info.GetOptions(), options) || string(info.GetFeatures().GetValue()) != `{"ociVersionMin":"crun"}` ||
		info.GetFeatures().GetTypeUrl() != "types.containerd.io/opencontainers/runtime-spec/1/features/Features" {
		t.Errorf("info %v", info)
	}
	if stdout, stderr, err := run(shimCommand(nil, "--info")); err != nil || stderr != "" || stdout == "" {
		t.Errorf("without options: %v; %s", err, stderr)
	}
	if stdout, stderr, err := run(shimCommand([]byte("rubbish"), "-info")); err == nil || stdout != "" || stderr == "" {
		t.Errorf("rubbish: %v; %q", err, stderr)
	}
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"-v", "--version"} {
		stdout, stderr, err := run(shimCommand(nil, flag))
		if err != nil || stderr != "" || !strings.Contains(stdout, "Version:  v1.2.3\n") || !strings.Contains(stdout, "Revision: abc\n") {
			t.Errorf("%s: %v; %q, %q", flag, err, stdout, stderr)
		}
	}
}

func TestDeleteReply(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/run/elsewhere", filepath.Join(dir, socketDirLink)); err != nil {
		t.Fatal(err)
	}
	cmd := shimCommand(nil, "-namespace", "ns", "-address", "/run/test.sock", "-id", "c1", "-bundle", dir, "-debug", "delete")
	stdout, stderr, err := run(cmd)
	if err != nil {
		t.Fatalf("%v; %s", err, stderr)
	}
	r := new(taskapi.DeleteResponse)
	if err := proto.Unmarshal([]byte(stdout), r); err != nil {
		t.Fatal(err)
	}
	if r.GetPid() != 42 || r.GetExitStatus() != 137 || r.GetExitedAt().AsTime().UnixNano() != 1700000000e9+5 {
		t.Errorf("reply %v", r)
	}
	want, err := socketPath("/run/elsewhere", "/run/test.sock", "ns", "c1")
	if err != nil || !strings.Contains(stderr, want) {
		t.Errorf("delete knows another socket than %s: %s", want, stderr)
	}
}

// TestDeleteOfBrokenBundle must clean up although nobody can tell the group.
func TestDeleteOfBrokenBundle(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, err := run(shimCommand(nil, "-namespace", "ns", "-id", "c1", "-bundle", dir, "delete"))
	if err != nil || stdout == "" || !strings.Contains(stderr, "config.json") {
		t.Errorf("%v; %q, %q", err, stdout, stderr)
	}
}

func TestUsageErrors(t *testing.T) {
	for want, args := range map[string][]string{
		"-nonsense":             {"-nonsense"},
		"-namespace is missing": {"-id", "x", "start"},
		"-id is missing":        {"-namespace", "x", "delete"},
		`"stop" is not known`:   {"-namespace", "x", "-id", "x", "stop"},
		"flags come before it":  {"-namespace", "x", "-id", "x", "start", "-debug"},
	} {
		stdout, stderr, err := run(shimCommand(nil, args...))
		if err == nil || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: %v; %q, %q", args, err, stdout, stderr)
		}
	}
}

func TestParseFlags(t *testing.T) {
	f, err := parseFlags([]string{"shim", "-namespace", "n", "--address", "/a", "-publish-binary", "/p", "-id=i",
		"--bundle=/b", "-debug", "-socket", "/s", "-debug-socket", "/d", "delete"})
	want := &flags{namespace: "n", address: "/a", publishBinary: "/p", id: "i", bundle: "/b",
		debug: true, socket: "/s", debugSocket: "/d", action: "delete"}
	if err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestCgroupMounts(t *testing.T) {
	const v1 = `25 20 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro
26 25 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
27 25 0:24 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
28 25 0:25 / /mnt/a\040b rw - cgroup cgroup rw,cpu
29 20 0:24 / /again rw - cgroup cgroup rw,memory
rubbish
`
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"hybrid":  {v1, []string{"/sys/fs/cgroup/memory", "/mnt/a b"}},
		"unified": {"26 25 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", []string{"/sys/fs/cgroup"}},
		"none":    {"", nil},
	} {
		if got, err := cgroupMounts(strings.NewReader(c.text)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
