// SPDX-License-Identifier: Apache-2.0

package native

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"golang.org/x/sys/unix"

	"berth/process/oci"
)

// command is runc's command line over the same state.
func (b *box) command(args ...string) (string, error) {
	b.Helper()
	hold := b.sup.Spare() // os/exec waits by itself
	defer hold.Release()
	global := []string{"--root", b.driver.Root}
	if underSystemd {
		global = append(global, "--systemd-cgroup")
	}
	cmd := exec.Command(runc, append(global, args...)...)
	cmd.Dir = b.bundle
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (b *box) runc(args ...string) string {
	b.Helper()
	out, err := b.command(args...)
	if err != nil {
		b.Fatalf("runc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (b *box) cli() *oci.CLI {
	return &oci.CLI{Binary: runc, Root: b.driver.Root, Dir: b.bundle, Supervisor: b.sup, SystemdCgroup: underSystemd}
}

func needRunc(t *testing.T) {
	if runc == "" {
		t.Skip("BERTH_RUNC does not name a runc")
	}
}

// state is what the command line says of the container's status.
func (b *box) wantState(want string) {
	b.Helper()
	st, err := b.cli().State(b.Context(), b.id)
	if err != nil || st.Status != want {
		b.Errorf("runc state says %+v, %v; want %s", st, err, want)
	}
	if st, err := b.driver.State(b.Context(), b.id); err != nil || st.Status != want {
		b.Errorf("the library says %+v, %v; want %s", st, err, want)
	}
}

// Every verb of the command line works on a container of the library.
func TestCommandLineOnNative(t *testing.T) {
	needRunc(t)
	b := newBox(t, "sleep 1000")
	p, err := b.tryCreate(nil)
	b.must(err)
	b.wantState("created")
	b.runc("start", b.id)
	b.wantState("running")
	if list := b.runc("list", "-q"); !slices.Contains(strings.Fields(list), b.id) {
		t.Errorf("runc list: %s", list)
	}
	b.until("runc ps shows the program", func() bool { return strings.Contains(b.runc("ps", b.id), "sleep 1000") })
	if out := b.runc("exec", b.id, "/bin/sh", "-c", "echo in $0"); out != "in /bin/sh\n" {
		t.Errorf("runc exec: %q", out)
	}
	b.runc("pause", b.id)
	b.wantState("paused")
	if _, err := b.exec(shell("true"), nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("exec in a container that the command line has paused: %v", err)
	}
	b.runc("resume", b.id)
	b.runc("update", "--pids-limit", "77", b.id)
	b.runc("kill", b.id, "KILL")
	if status := b.status(p); status != 137 {
		t.Errorf("status %d", status)
	}
	b.wantState("stopped")
	b.runc("delete", b.id)
	b.nothingLeft()
}

// Every call of the library works on a container of the command line.
func TestNativeOnCommandLine(t *testing.T) {
	needRunc(t)
	b := newBox(t, "sleep 1000")
	b.write()
	p, err := b.cli().Create(t.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
	b.must(err)
	b.wantState("created")
	b.must(b.driver.Start(t.Context(), b.id))
	b.wantState("running")
	out := newOutput(t)
	e, err := b.exec(shell("echo in; exit 4"), out)
	b.must(err)
	if status := b.status(e); status != 4 || out.text() != "in\n" {
		t.Errorf("status %d, output %q", status, out.text())
	}
	b.must(b.driver.Pause(t.Context(), b.id))
	b.wantState("paused")
	if out, err := b.command("exec", b.id, "true"); err == nil || !strings.Contains(out, "paused") {
		t.Errorf("exec by the command line in a container that the library has paused: %v, %s", err, out)
	}
	b.must(b.driver.Resume(t.Context(), b.id))
	b.must(b.driver.Update(t.Context(), b.id, []byte(`{"pids":{"limit":77}}`)))
	if err := b.driver.Delete(t.Context(), b.id, false); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("delete of a running container: %v", err)
	}
	b.must(p.Signal(unix.SIGTERM)) // as PID 1 it does not hear it
	b.kill(p)
	b.must(b.driver.Delete(t.Context(), b.id, false))
	b.nothingLeft()
	if err := b.driver.Delete(t.Context(), b.id, false); !errdefs.IsNotFound(err) {
		t.Errorf("second delete: %v", err)
	}
}

// Each ends what the other has made, in any state.
func TestForcedDelete(t *testing.T) {
	needRunc(t)
	for name, tc := range map[string]struct{ native, started bool }{
		"command deletes created": {true, false}, "command deletes running": {true, true},
		"native deletes created": {false, false}, "native deletes running": {false, true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			b := newBox(t, "sleep 1000")
			b.write()
			r := &oci.CreateRequest{ID: b.id, Bundle: b.bundle}
			make, remove := b.cli().Create, b.driver.Delete
			if tc.native {
				make, remove = b.driver.Create, b.cli().Delete
			}
			p, err := make(t.Context(), r)
			b.must(err)
			if tc.started {
				b.must(b.driver.Start(t.Context(), b.id))
			}
			b.must(remove(t.Context(), b.id, true))
			if status := b.status(p); status != 137 {
				t.Errorf("status %d", status)
			}
			b.nothingLeft()
		})
	}
}

// What is on disk is the same, to the letter, but for what differs between any
// two containers.
func TestSameState(t *testing.T) {
	needRunc(t)
	b := newBox(t, "sleep 1000")
	fill(b.spec)
	if !seccomp.Enabled {
		t.Log("without seccomp: this test was built without the tag")
		b.spec.Linux.Seccomp = nil
	}
	states := map[string]map[string]any{}
	for name, create := range map[string]func() error{
		"native": func() error { _, err := b.tryCreate(nil); return err },
		"command": func() error {
			b.write()
			_, err := b.cli().Create(t.Context(), &oci.CreateRequest{ID: b.id, Bundle: b.bundle})
			return err
		},
	} {
		b.must(create())
		data, err := os.ReadFile(filepath.Join(b.driver.Root, b.id, "state.json"))
		b.must(err)
		var state map[string]any
		b.must(json.Unmarshal(data, &state))
		for _, own := range []string{"init_process_pid", "init_process_start", "created", "namespace_paths"} {
			if _, ok := state[own]; !ok {
				t.Errorf("%s: state.json has no %s", name, own)
			}
			delete(state, own)
		}
		if pid, err := os.ReadFile(filepath.Join(b.bundle, "init.pid")); err != nil || len(pid) == 0 {
			t.Errorf("%s: pid file: %q, %v", name, pid, err)
		}
		states[name] = state
		b.must(b.driver.Delete(t.Context(), b.id, true))
	}
	for _, key := range slices.Sorted(maps.Keys(states["command"])) {
		if !reflect.DeepEqual(states["command"][key], states["native"][key]) {
			t.Errorf("%s:\n command %v\n native  %v", key, states["command"][key], states["native"][key])
		}
	}
	if len(states["command"]) != len(states["native"]) {
		t.Errorf("%d keys and %d", len(states["command"]), len(states["native"]))
	}
}
