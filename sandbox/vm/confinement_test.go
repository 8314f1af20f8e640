// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"berth/process/cgroup"
)

// A machine that is to be a template, or is made of one, is confined as any other.
func TestConfinement(t *testing.T) {
	for name, machine := range map[string]func(*rig, Config) *guestOf{
		"booted": (*rig).up,
		"template": func(r *rig, c Config) *guestOf {
			m, err := BootTemplate(r.ctx, c, false)
			if err != nil {
				r.Fatal(err)
			}
			r.closes(m)
			return r.heard(m)
		},
		"copy": func(r *rig, c Config) *guestOf { return r.copyOf(r.record(r.config(), false), c) },
		"cow":  func(r *rig, c Config) *guestOf { return r.copyOf(r.record(r.config(), true), c) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.config()
			c.Cgroup = testGroup(t)
			confined(t, machine(r, c), name != "booted")
		})
	}
}

// confined tests a machine, which sees its own processes if proc is true.
func confined(t *testing.T, g *guestOf, proc bool) {
	pid := g.Pid()

	t.Run("user", func(t *testing.T) {
		id := strconv.Itoa(tester)
		for _, field := range []string{"Uid", "Gid"} {
			if got := statusOf(t, pid, field); got != strings.Join([]string{id, id, id, id}, " ") {
				t.Errorf("%s is %s", field, got)
			}
		}
		if got := statusOf(t, pid, "Groups"); got != "" {
			t.Errorf("it is in the groups %s", got)
		}
	})
	t.Run("threads", func(t *testing.T) { threadsConfined(t, pid, 0) })
	t.Run("descriptors", func(t *testing.T) { descriptorsKnown(t, pid, `^/dev/null$`, `^/memfd:`) })
	t.Run("command line", func(t *testing.T) { guarded(t, commandOf(t, pid)) })
	t.Run("environment", func(t *testing.T) {
		if environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(environ) > 0 {
			t.Errorf("it is %q, %v", environ, err)
		}
	})
	t.Run("namespaces", func(t *testing.T) {
		for _, ns := range []string{"mnt", "pid", "ipc", "uts"} {
			if namespaceOf(t, pid, ns) == namespaceOf(t, os.Getpid(), ns) {
				t.Errorf("it is in the host's %s namespace", ns)
			}
		}
		if namespaceOf(t, pid, "net") != namespaceOf(t, os.Getpid(), "net") {
			t.Error("it is not in the network namespace that it was started in")
		}
	})
	t.Run("limits", func(t *testing.T) {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"Max core file size": "0 0", "Max open files": "1024 1024", "Max processes": "512 512"} {
			_, rest, _ := strings.Cut(string(limits), name)
			if f := strings.Fields(rest); len(f) < 2 || f[0]+" "+f[1] != want {
				t.Errorf("%s is %v, want %s", name, f[:min(2, len(f))], want)
			}
		}
	})
	t.Run("root", func(t *testing.T) {
		root := fmt.Sprintf("/proc/%d/root", pid)
		top := []string{"dev", "etc", "lib", "lib64", "tmp", "usr", "var"}
		if proc {
			top = append(top, "proc")
			if _, err := os.Stat(filepath.Join(root, "proc/sys")); err == nil {
				t.Error("it sees the host's settings in /proc")
			}
		}
		for dir, want := range map[string][]string{"": top, "dev": {"null", "urandom"}} {
			entries, err := os.ReadDir(filepath.Join(root, dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if !slices.Contains(want, e.Name()) {
					t.Errorf("it sees /%s", filepath.Join(dir, e.Name()))
				}
			}
		}
		for _, m := range mountsOf(t, pid) {
			options := strings.Split(m.options, ",")
			for _, want := range []string{"ro", "nosuid"} {
				if !slices.Contains(options, want) {
					t.Errorf("%s is mounted %s, without %s", m.point, m.options, want)
				}
			}
		}
	})
	t.Run("no mount on the host", func(t *testing.T) {
		for _, m := range mountsOf(t, os.Getpid()) {
			if m.source == "jail" {
				t.Errorf("the host has the machine's mount at %s", m.point)
			}
		}
	})
	t.Run("cgroup", func(t *testing.T) {
		loc, ok := g.Cgroup()
		if !ok {
			t.Fatal("the machine has no cgroup")
		}
		for controller, dir := range loc.Dirs {
			procs, err := os.ReadFile(filepath.Join(dir.Path, "cgroup.procs"))
			if err != nil || strings.TrimSpace(string(procs)) != strconv.Itoa(pid) {
				t.Errorf("%q has the processes %q (%v), want %d alone", controller, procs, err, pid)
			}
		}
	})
	t.Run("devices", func(t *testing.T) {
		loc, _ := g.Cgroup()
		dir, ok := loc.Dirs["devices"]
		if !ok {
			dir = loc.Dirs[cgroup.Unified]
		}
		if out := inGroup(dir.Path, "exec 3</dev/urandom; echo good"); out != "good\n" {
			t.Errorf("what is allowed is not: %s", out)
		}
		for _, node := range []string{"zero", "kmsg", "mem", "fuse", "net/tun", "loop-control"} {
			if out := inGroup(dir.Path, "exec 3</dev/"+node+"; echo bad"); strings.Contains(out, "bad") {
				t.Errorf("/dev/%s can be opened: %s", node, out)
			}
		}
	})
	t.Run("no program can be started", func(t *testing.T) {
		// The one command of the monitor that has QEMU start a program.
		if err := g.qmp.Execute(g.ctx, "migrate", map[string]any{"uri": "exec:/bin/true"}, nil); err == nil {
			t.Error("QEMU has started a program")
		}
		if exit := g.ended(g.Machine); exit.Reason != VMMEnded || !strings.Contains(exit.Detail, "SIGSYS") {
			t.Errorf("QEMU was not kept from it by seccomp: %v", exit)
		}
	})
}

// A process in the machine's cgroup can open no device but QEMU's.
func TestDeviceFilter(t *testing.T) {
	loc, err := cgroup.Claim(testGroup(t))
	if err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	devices, err := new(Config).vmmDevices(TCG)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		hierarchy string
		filter    func(dir string) error
	}{
		"v1": {"devices", func(dir string) error { return filterDevicesV1(dir, devices) }},
		"v2": {cgroup.Unified, func(dir string) error { return filterDevicesV2(dir, devices) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir, ok := loc.Dirs[c.hierarchy]
			if !ok {
				t.Skipf("this host has no hierarchy %q", c.hierarchy)
			}
			if err := os.Mkdir(dir.Path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
			defer func() {
				if err := unix.Rmdir(dir.Path); err != nil {
					t.Error(err)
				}
			}()
			if err := c.filter(dir.Path); err != nil {
				t.Fatal(err)
			}
			try := func(script string) string { return inGroup(dir.Path, script) }
			if out := try("exec 3<>/dev/null 4</dev/urandom; echo good"); out != "good\n" {
				t.Errorf("what is allowed is not: %s", out)
			}
			for _, script := range []string{"exec 3</dev/zero", "exec 3>/dev/full", "exec 3</dev/kmsg"} {
				if out := try(script); !strings.Contains(out, "Operation not permitted") && !strings.Contains(out, "cannot") {
					t.Errorf("%s is allowed: %s", script, out)
				}
			}
			node := filepath.Join(t.TempDir(), "node")
			if out := try("exec mknod " + node + " c 1 5"); out != "" {
				t.Errorf("making a device node is not allowed: %s", out)
			}
		})
	}
}

// inGroup runs a script in a cgroup.
func inGroup(dir, script string) string {
	out, err := exec.Command("/bin/sh", "-c", `echo $$ >"$0/cgroup.procs"; `+script, dir).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s (%v)", out, err)
	}
	return string(out)
}

// A machine can be ended from another process, by its cgroup alone.
func TestEndByCgroup(t *testing.T) {
	r := newRig(t)
	c := r.config()
	c.Cgroup, c.Share = testGroup(t), shared(t)
	g := r.up(c)
	loc, _ := g.Cgroup()
	group, err := cgroup.Load(loc)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = group.Close() }()
	pids, err := group.Pids()
	if err != nil || len(pids) != 2 {
		t.Errorf("the cgroup has the processes %v (%v), want QEMU and virtiofsd", pids, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := group.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	r.ended(g.Machine)
}

// testGroup is the path of a cgroup that is not there yet.
func testGroup(t *testing.T) string {
	return fmt.Sprintf("/berth-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
}
