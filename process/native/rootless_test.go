// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"berth/process/oci"
)

// The driver does for an unprivileged user what it does for root, and what the
// command line does for that user: the tests that say so are run again, each
// time by a process that is that user from its beginning.
func TestRootless(t *testing.T) {
	needRunc(t)
	if os.Geteuid() != 0 || landHere() != nil {
		t.Skip("not root: nobody can become another user")
	}
	for i, l := range lands {
		t.Run(strings.ReplaceAll(l.name, " ", "-"), func(t *testing.T) {
			dir := l.settle(t)
			// It waits until it is in its cgroup.
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `read go && exec ./native.test "$@"`, "sh", "-test.run=^("+l.tests+")$", "-test.v")
			cmd.Dir = dir
			cmd.Env = []string{
				landKey + "=" + l.name, "BERTH_RUNC=" + filepath.Join(dir, "runc"), "BERTH_ATTACK=" + filepath.Join(dir, "attack"),
				"TMPDIR=" + filepath.Join(dir, "tmp"), "PATH=" + os.Getenv("PATH"), "HOME=" + dir,
			}
			enter := func(int) {}
			if l.cgroups {
				name := fmt.Sprintf("berth-nat-%d-land%d", os.Getpid(), i)
				enter = delegate(t, name)
				cmd.Env = append(cmd.Env, cgroupKey+"="+name)
			}
			cmd.SysProcAttr = l.become()
			out := newOutput(t)
			cmd.Stdout, cmd.Stderr = out.f, out.f
			stdin, err := cmd.StdinPipe()
			succeed(t, err)
			succeed(t, cmd.Start())
			enter(cmd.Process.Pid)
			_, err = stdin.Write([]byte("\n"))
			if err = errors.Join(err, cmd.Wait()); err != nil {
				t.Fatalf("%v\n%s", err, out.text())
			}
			for name := range strings.SplitSeq(l.tests, "|") {
				if !strings.Contains(out.text(), "--- PASS: "+name+" ") {
					t.Errorf("%s was not run\n%s", name, out.text())
				}
			}
		})
	}
}

// Without cgroups of his own a user has containers all the same. What needs one is
// refused in the same words by either driver, on a container of the other.
func TestWithoutCgroups(t *testing.T) {
	needRunc(t)
	if l := landHere(); l == nil || l.cgroups {
		t.Skip("there are cgroups here")
	}
	for maker, of := range map[string][2]string{"native": {"native", "command"}, "command": {"command", "native"}} {
		t.Run(maker, func(t *testing.T) {
			b := newBox(t, "sleep 1000")
			b.write()
			drivers := map[string]driver{"native": b.driver, "command": b.cli()}
			made, other := drivers[of[0]], drivers[of[1]]
			p, err := made.Create(t.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
			b.must(err)
			b.wantState("created")
			b.must(other.Start(t.Context(), b.id))
			b.wantState("running")
			if list := b.runc("list", "-q"); !slices.Contains(strings.Fields(list), b.id) {
				t.Errorf("runc list: %s", list)
			}
			process, err := json.Marshal(shell("echo in; exit 4"))
			b.must(err)
			out := newOutput(t)
			e, err := other.Exec(t.Context(), &oci.ExecRequest{ID: b.id, ExecID: "e", Bundle: b.bundle, Streams: out, Process: process})
			b.must(err)
			if status := b.status(e); status != 4 || out.text() != "in\n" {
				t.Errorf("status %d, output %q", status, out.text())
			}
			for what, try := range map[string]func(driver) error{
				"pause":  func(d driver) error { return d.Pause(t.Context(), b.id) },
				"resume": func(d driver) error { return d.Resume(t.Context(), b.id) },
				"update": func(d driver) error { return d.Update(t.Context(), b.id, []byte(`{"pids":{"limit":77}}`)) },
				"delete": func(d driver) error { return d.Delete(t.Context(), b.id, false) },
			} {
				command, native := try(b.cli()), try(b.driver)
				if native == nil || command == nil || command.Error() != native.Error() {
					t.Errorf("%s:\n command %v\n native  %v", what, command, native)
				}
			}
			b.runc("kill", b.id, "KILL")
			if status := b.status(p); status != 137 {
				t.Errorf("status %d", status)
			}
			b.wantState("stopped")
			b.must(other.Delete(t.Context(), b.id, false))
			b.nothingLeft()
		})
	}
	t.Run("limits", func(t *testing.T) {
		b := newBox(t, "sleep 1000")
		pids := int64(100)
		b.spec.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}}
		b.writeSpec()
		var errs []string
		for _, d := range []driver{b.cli(), b.driver} {
			_, err := d.Create(t.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
			errs = append(errs, fmt.Sprint(err))
			b.nothingLeft()
		}
		if errs[0] != errs[1] || !strings.Contains(errs[1], "cgroup") {
			t.Errorf("limits:\n command %s\n native  %s", errs[0], errs[1])
		}
	})
}
