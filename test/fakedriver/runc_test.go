// SPDX-License-Identifier: Apache-2.0

package fakedriver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// runcPath is the runc that a lane promises in BERTH_RUNC, else one of PATH.
func runcPath(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("BERTH_RUNC"); path != "" {
		return path
	}
	path, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("no runc: no container to look from")
	}
	return path
}

type dict = map[string]any

// bundle is a container of nothing but nvidia-smi, a library and the first GPU: its node is
// allowed, the second's is denied.
func bundle(t *testing.T, d *Driver, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	var devices, rules []dict
	rules = append(rules, dict{"allow": false, "access": "rwm"}) // runc adds that every node may be made
	for _, n := range []struct {
		path  string
		minor int
		allow bool
	}{{"/dev/nvidiactl", 255, true}, {"/dev/nvidia0", 0, true}, {"/dev/nvidia1", 1, false}} {
		devices = append(devices, dict{"path": n.path, "type": "c", "major": 195, "minor": n.minor, "fileMode": 0o666})
		if n.allow {
			rules = append(rules, dict{"allow": true, "type": "c", "major": 195, "minor": n.minor, "access": "rwm"})
		}
	}
	bind := func(inside string) dict {
		return dict{"destination": inside, "type": "bind", "source": filepath.Join(d.Root, inside),
			"options": []string{"ro", "nosuid", "nodev", "rbind", "rprivate"}}
	}
	caps := []string{"CAP_MKNOD"}
	spec := dict{
		"ociVersion": "1.0.2",
		"process": dict{"args": append([]string{"/usr/bin/nvidia-smi"}, args...), "cwd": "/", "user": dict{"uid": 0, "gid": 0},
			"env": []string{"NVIDIA_VISIBLE_DEVICES=void"}, "capabilities": dict{"bounding": caps, "effective": caps, "permitted": caps}},
		"root": dict{"path": "rootfs"},
		"mounts": []dict{{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/proc", "type": "proc", "source": "proc"},
			bind("/usr/bin/nvidia-smi"), bind("/usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06")},
		"linux": dict{"devices": devices, "resources": dict{"devices": rules}, "namespaces": []dict{{"type": "pid"}, {"type": "mount"}},
			"cgroupsPath": testCgroup + "/" + filepath.Base(dir)},
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A real container of an empty root file system sees what it was given: nodes that its
// cgroup allows and denies, the library, and no way around the cgroup.
func TestContainer(t *testing.T) {
	d := build(t, Config{GPUs: 3, SMI: smi(t)})
	runc := runcPath(t)
	for name, c := range map[string]struct {
		args, want []string
		code       int
	}{
		"list": {nil, []string{"control: /dev/nvidiactl 195:255 ENXIO allowed\n", "GPU: /dev/nvidia0 195:0 ENXIO allowed\n",
			"GPU: /dev/nvidia1 195:1 EPERM denied\n", "library: /usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06\n", "env: NVIDIA_VISIBLE_DEVICES=void\n"}, 0},
		"probe allowed": {[]string{"--probe", "195:0"}, []string{"probe: 195:0 ENXIO allowed\n"}, 0},
		"probe denied":  {[]string{"--probe", "195:2"}, []string{"probe: 195:2 EPERM denied\n"}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			dir := bundle(t, d, c.args...)
			state := t.TempDir()
			id := fmt.Sprintf("fakedriver-%d-%s", os.Getpid(), strings.ReplaceAll(name, " ", "-"))
			cmd := exec.Command(runc, "--root", state, "run", "--bundle", dir, id)
			out, err := cmd.CombinedOutput()
			t.Cleanup(func() { removeCgroups(t) })
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d: %v: %s", code, c.code, err, out)
			}
			for _, want := range c.want {
				if !bytes.Contains(out, []byte(want)) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			if bytes.Contains(out, []byte("/dev/nvidia2")) || bytes.Contains(out, []byte("/dev/nvidia-uvm")) {
				t.Errorf("it sees what it was not given:\n%s", out)
			}
		})
	}
}

// testCgroup is the parent of the containers' cgroups, and of no other program's.
var testCgroup = fmt.Sprintf("/berth-fakedriver-%d", os.Getpid())

// removeCgroups removes it, which runc leaves.
func removeCgroups(t *testing.T) {
	t.Helper()
	for _, hierarchy := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} { // v1, v2
		found, _ := filepath.Glob(hierarchy + testCgroup) // the patterns are well-formed
		for _, dir := range found {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
	}
}
