// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/gpu/nvml"
	"berth/process"
	"berth/process/cgroup"
)

const boot = "b00t"

// child runs until it is killed.
func child(t *testing.T) (cmd *exec.Cmd, started uint64) {
	t.Helper()
	cmd = exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd, stdin) })
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	if _, err := fmt.Sscan(fields[19], &started); err != nil {
		t.Fatal(err)
	}
	return cmd, started
}

func kill(cmd *exec.Cmd, stdin io.Closer) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if stdin != nil {
		_ = stdin.Close()
	}
}

// container is a process in a cgroup, where the runtime would make it.
func container(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("missing capability: root, to make a cgroup")
	}
	loc, err := cgroup.Claim(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cg, err := cgroup.Load(loc)
		if err == nil {
			err = cg.Remove(context.Background())
			_ = cg.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	cmd, _ := child(t)
	joined := false
	for _, dir := range loc.Dirs {
		inner := filepath.Join(dir.Path, "inner") // a container may make cgroups of its own
		if os.Mkdir(inner, 0o755) != nil {
			continue // it was made in one hierarchy
		}
		if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
		joined = true
	}
	if !joined {
		t.Fatal("there is no cgroup to join")
	}
	return cmd
}

func pidNamespace(t *testing.T) uint64 {
	t.Helper()
	ns, err := process.PIDNamespace()
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// A tenant lives as long as its shim does or its container, in this boot.
func TestTenantLife(t *testing.T) {
	path := "/" + NewID()
	before, err := cgroup.Place(path)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := cgroup.Place(path + "-systemd")
	if err != nil {
		t.Fatal(err)
	}
	shim, started := child(t)
	tenant := &Tenant{Namespace: "ns", Container: "c", Group: "g", BootID: boot, PID: shim.Process.Pid, StartTime: started, PIDNamespace: pidNamespace(t),
		Cgroups: []cgroup.Location{elsewhere, before}}
	wants := func(when string, want Life) {
		t.Helper()
		if got := tenant.Life(boot); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	wants("before its container is made", Served)
	init := container(t, path)
	wants("both live", Served)
	kill(shim, nil)
	wants("the shim is killed", Orphaned)
	if got := tenant.Life("another"); got != Gone {
		t.Errorf("after a boot: %q", got)
	}
	kill(init, nil)
	wants("the cgroup is empty", Gone)
	tenant.PID, tenant.StartTime = os.Getpid(), 1
	wants("another process has the pid", Gone)
	tenant.PID = 1 << 29
	wants("no process can have the pid", Gone)
	tenant.Cgroups[0].Dirs = map[string]cgroup.Dir{cgroup.Unified: {Path: "/proc/self/fd"}}
	wants("its cgroup is none", Unknown)
}

// An owner is what the liveliest of its tenants is; one that cannot be read is no proof of death.
func TestOwnerLife(t *testing.T) {
	run := t.TempDir()
	pod := nvml.Owner{Namespace: "ns", Container: "pod:p", Pod: "p", Group: "g"}
	wants := func(want Life, name, except string) {
		t.Helper()
		life, who := OwnerLife(run, boot, pod, except)
		if life != want || (who == nil) != (name == "") || who != nil && who.Container != name {
			t.Errorf("%q of %+v, want %q of %s", life, who, want, name)
		}
	}
	wants(Gone, "", "")
	shim, started := child(t)
	a := &Tenant{Namespace: "ns", Container: "a", Group: "g", Pod: "p", BootID: boot, PID: shim.Process.Pid, StartTime: started}
	dead := &Tenant{Namespace: "ns", Container: "b", Group: "g", Pod: "p", BootID: boot, PID: os.Getpid(), StartTime: 1}
	other := &Tenant{Namespace: "ns2", Container: "a", Group: "g2", Pod: "p", BootID: boot, PID: shim.Process.Pid, StartTime: started}
	for _, tenant := range []*Tenant{a, dead, other} {
		if err := tenant.Write(run); err != nil {
			t.Fatal(err)
		}
	}
	wants(Served, "a", "")
	wants(Gone, "", "a")
	if err := os.WriteFile(filepath.Join(tenants(run), dead.name()), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants(Unknown, "b", "a")
	for _, tenant := range []*Tenant{a, a, dead} {
		if err := tenant.Remove(run); err != nil {
			t.Error(err)
		}
	}
	wants(Gone, "", "")
	if err := os.RemoveAll(tenants(run)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tenants(run), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wants(Unknown, "", "")
}

func TestHostileTenants(t *testing.T) {
	for _, names := range [][3]string{{"", "c", "c"}, {"ns", "", "c"}, {"ns", "c", ""}, {"..", "c", "c"}, {"ns", "a:b", "c"}, {"ns", "../x", "c"}, {"n:s", "c", "c"}, {"ns", "c", "a/b"}, {"ns", "c", "a:b"}} {
		tenant := &Tenant{Namespace: names[0], Container: names[1], Group: names[2], BootID: boot, PID: 1, StartTime: 1}
		if tenant.Write(t.TempDir()) == nil || tenant.Remove(t.TempDir()) == nil {
			t.Errorf("%q is a tenant", names)
		}
	}
}

// What dead shims left is forgotten, but not as long as a record is the owner's.
func TestPrune(t *testing.T) {
	run := t.TempDir()
	l := locked(t, run, nil)
	r := record(Intent, 0)
	r.State, r.Owner.Group = "", "recorded"
	if err := l.Write(r, Intent); err != nil {
		t.Fatal(err)
	}
	shim, started := child(t)
	for _, name := range []string{"recorded", "left"} {
		if err := (&Tenant{Namespace: "ns", Container: name, Group: name, BootID: boot, PID: os.Getpid(), StartTime: 1}).Write(run); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&Tenant{Namespace: "ns", Container: "alive", Group: "alive", BootID: boot, PID: shim.Process.Pid, StartTime: started}).Write(run); err != nil {
		t.Fatal(err)
	}
	claims := filepath.Join(run, "gpu", "claims")
	if err := os.MkdirAll(claims, 0o700); err != nil {
		t.Fatal(err)
	}
	ns := pidNamespace(t)
	living, elsewhere := fmt.Sprintf(".new-%d-%d-%d-x", shim.Process.Pid, started, ns), fmt.Sprintf(".new-%d-%d-%d-x", shim.Process.Pid, started+1, ns+1)
	for _, dir := range []string{tenants(run), claims} {
		for _, name := range []string{living, elsewhere, fmt.Sprintf(".new-%d-%d-%d-x", shim.Process.Pid, started+1, ns), ".other"} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := Prune(run, boot); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{tenants(run), claims} {
		left, err := filepath.Glob(filepath.Join(dir, ".*"))
		if want := []string{filepath.Join(dir, living), filepath.Join(dir, elsewhere), filepath.Join(dir, ".other")}; err != nil || !slices.Equal(left, want) {
			t.Errorf("of what was being written there is %q, %v, not %q", left, err, want)
		}
	}
	all, err := Tenants(run)
	if err != nil || len(all) != 2 || all[0].Container != "alive" || all[1].Container != "recorded" {
		t.Errorf("left are %+v, %v", all, err)
	}
}
