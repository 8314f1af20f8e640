// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// eachGuest runs a test for the runtimes whose containers have a kernel of
// their own.
func eachGuest(t *testing.T, test func(t *testing.T, r runtimeCase)) {
	eachRuntime(t, func(t *testing.T, r runtimeCase) {
		if !r.guest {
			t.Skipf("%s has no guests", r.name)
		}
		test(t, r)
	})
}

// TestGuestKernel asks for the kernel inside and outside.
func TestGuestKernel(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		c := create(ctx, t, shared, r, request{args: []string{"uname", "-r"}})
		if code := c.run(ctx, t); code != 0 {
			t.Errorf("status %d, %s", code, c.stderr)
		}
		var host unix.Utsname
		if err := unix.Uname(&host); err != nil {
			t.Fatal(err)
		}
		inside, outside := strings.TrimSpace(c.stdout.String()), unix.ByteSliceToString(host.Release[:])
		if inside == "" || inside == outside {
			t.Errorf("the kernel inside is %q, outside %q", inside, outside)
		}
	})
}

// TestGuestVolumes has a container with what pods have for volumes.
func TestGuestVolumes(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		host := t.TempDir()
		for name, content := range map[string]string{"single": "one", "secret": "not yours", "ro/file": "two", "rw/file": "three"} {
			path := filepath.Join(host, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		bind := func(source, to string, options ...string) specs.Mount {
			return specs.Mount{Type: "bind", Source: filepath.Join(host, source), Destination: to, Options: append(options, "rbind")}
		}
		script := `cat /single /ro/file /rw/file; echo new > /rw/new; echo changed > /single
echo x > /ro/x 2>/dev/null || echo read-only; df -k /tmpfs | tail -1; test -e /secret && echo seen
cat /ro/later`
		c := create(ctx, t, shared, r, request{
			args: []string{"sh", "-c", script},
			spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{
				bind("single", "/single"), bind("ro", "/ro", "ro"), bind("rw", "/rw"),
				{Type: "tmpfs", Source: "tmpfs", Destination: "/tmpfs", Options: []string{"size=1024k"}},
			})},
		})
		// What is put into a volume after the container was created is there.
		if err := os.WriteFile(filepath.Join(host, "ro/later"), []byte("four"), 0o644); err != nil {
			t.Fatal(err)
		}
		if code := c.run(ctx, t); code != 0 {
			t.Errorf("status %d, %s", code, c.stderr)
		}
		out := c.stdout.String()
		for _, want := range []string{"onetwothree", "read-only", " 1024 ", "four"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in the output:\n%s%s", want, out, c.stderr)
			}
		}
		if strings.Contains(out, "seen") {
			t.Error("a neighbour of the single file is in the container")
		}
		for name, want := range map[string]string{"rw/new": "new\n", "single": "changed\n"} {
			if got, err := os.ReadFile(filepath.Join(host, name)); string(got) != want {
				t.Errorf("%s on the host has %q, %v", name, got, err)
			}
		}
		if _, err := os.Stat(filepath.Join(host, "ro/x")); err == nil {
			t.Error("a read-only volume was written to")
		}
	})
}

// TestGuestLateMount mounts something in a volume of a container that runs.
func TestGuestLateMount(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		ctx := testContext(t, shared)
		host := kubeletDir(t)
		c := create(ctx, t, shared, r, request{args: idle, spec: []oci.SpecOpts{oci.WithMounts([]specs.Mount{
			{Type: "bind", Source: host, Destination: "/volume", Options: []string{"rbind", "rslave"}},
		})}})
		exit := start(ctx, t, c.task)
		late := filepath.Join(host, "late")
		if err := os.Mkdir(late, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("late", late, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(late, "file"), []byte("five"), 0o644); err != nil {
			t.Fatal(err)
		}
		out := newOutput()
		p, execExit := c.exec(ctx, t, "look", streamsTo(shared, nil, out, newOutput(), false), "cat", "/volume/late/file")
		if code := status(ctx, t, execExit); code != 0 {
			t.Errorf("status %d", code)
		}
		if _, err := p.Delete(ctx); err != nil {
			t.Error(err)
		}
		if out.String() != "five" {
			t.Errorf("what was mounted later: %q", out)
		}
		kill(ctx, t, c.task, unix.SIGKILL)
		c.delete(ctx, t, status(ctx, t, exit))
	})
}

// TestGuestRefusals asks for what no VM has.
func TestGuestRefusals(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		for name, c := range map[string]struct {
			spec oci.SpecOpts
			says string
		}{
			"hostNetwork": {oci.WithHostNamespace(specs.NetworkNamespace), "hostNetwork"},
			"device":      {oci.WithDevices("/dev/loop-control", "/dev/loop-control", "rwm"), "is the host's"},
			"proc": {oci.WithMounts([]specs.Mount{{
				Type: "bind", Source: "/proc", Destination: "/host", Options: []string{"rbind"},
			}}), "file system of the host's kernel"},
		} {
			t.Run(name, func(t *testing.T) {
				ctx := testContext(t, shared)
				_, err := tryCreate(ctx, t, shared, r, request{args: idle, spec: []oci.SpecOpts{c.spec}})
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("create: %v, want %q", err, c.says)
				}
			})
		}
	})
}

// TestMachineEnds ends the machine: containerd hears of it at once, and the
// task can be deleted. What else may end one is tested in sandbox/vm.
func TestMachineEnds(t *testing.T) {
	eachGuest(t, func(t *testing.T, r runtimeCase) {
		for name, victim := range map[string]func(*testing.T, int) int{
			"monitor killed": func(_ *testing.T, vmm int) int { return vmm },
			"sharing killed": func(t *testing.T, vmm int) int { return sibling(t, vmm, "virtiofsd") },
		} {
			t.Run(name, func(t *testing.T) {
				ctx := testContext(t, shared)
				c := create(ctx, t, shared, r, request{args: idle})
				exit := start(ctx, t, c.task)
				pid := victim(t, int(c.task.Pid()))
				began := time.Now()
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if code := status(ctx, t, exit); code != 137 {
					t.Errorf("status %d", code)
				}
				t.Logf("the exit was told after %v", time.Since(began))
				c.delete(ctx, t, 137)
			})
		}
	})
}

// sibling finds a process of that name with the same parent.
func sibling(t *testing.T, pid int, name string) int {
	t.Helper()
	parent, _ := parentAndName(pid)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		other, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, n := parentAndName(other); p == parent && n == name {
			return other
		}
	}
	t.Fatalf("process %d has no child %s", parent, name)
	return 0
}

// parentAndName reads proc_pid_stat(5); 0 if there is no such process.
func parentAndName(pid int) (parent int, name string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, ""
	}
	head, rest, _ := strings.Cut(string(stat), ") ")
	_, name, _ = strings.Cut(head, "(")
	if fields := strings.Fields(rest); len(fields) > 1 {
		parent, _ = strconv.Atoi(fields[1])
	}
	return parent, name
}
