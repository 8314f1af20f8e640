// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"berth/configs"
	"berth/hooks"
	"berth/process"
	"berth/test/fakeoci"
)

// A container whose record is torn, wherever that may be, is cleaned up like
// any other, and says that its exit is unknown, once and again. Where the
// options were lost the runtime may not even know it.
func TestCleanupOfATornRecord(t *testing.T) {
	for name, tear := range map[string]func([]byte) []byte{
		"empty":             func([]byte) []byte { return nil },
		"not a record":      func([]byte) []byte { return []byte("[]") },
		"of other types":    func([]byte) []byte { return []byte(`{"id":7,"cgroup":"x","pid":-1,"exit":{"status":0,"known":true}`) },
		"before the pid":    func(rec []byte) []byte { return rec[:bytes.Index(rec, []byte(`"pid"`))] },
		"within the pid":    func(rec []byte) []byte { return rec[:bytes.Index(rec, []byte(`"pid"`))+7] },
		"before the cgroup": func(rec []byte) []byte { return rec[:bytes.Index(rec, []byte(`"cgroup"`))] },
		"behind the cgroup": func(rec []byte) []byte { return rec[:bytes.Index(rec, []byte(`"claimed"`))] },
		"within a later one": func(rec []byte) []byte {
			return bytes.Replace(rec, []byte(`"shim":`), []byte(`"exit":{"status":0,"sh`), 1)
		},
	} {
		t.Run(name, func(t *testing.T) { testTear(t, tear, false) })
		t.Run(name+", and the runtime has forgotten", func(t *testing.T) { testTear(t, tear, true) })
	}
}

func testTear(t *testing.T, tear func([]byte) []byte, forgotten bool) {
	r := newRig(t) // which looks for cgroups in the end
	w := &witness{r: r}
	alive := r.fifo("alive")
	bundle := r.bundle("a", "orphan ignore ; touch "+alive+" ; sleep endfork ; ignore ; sleep", fakeoci.Plan{})
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Rootfs: tmpfs}); err != nil {
		t.Fatal(err)
	}
	c, err := r.pod.Container("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(r.ctx(), ""); err != nil {
		t.Fatal(err)
	}
	r.reached(alive)
	pids, err := c.Pids()
	if err != nil || len(pids) < 2 {
		t.Fatalf("pids %v, %v", pids, err)
	}
	r.abandon(c)
	r.rewriteRecord(bundle, tear)
	state := filepath.Join(r.root, "a")
	if forgotten {
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
	}

	req := CleanupRequest{ID: "a", Bundle: bundle, Runtime: r.runtime, Hooks: hooks.Chain{w}}
	for range 2 {
		d, err := Cleanup(r.ctx(), req)
		if err != nil || d.Exit.Status != unknown || d.Exit.Known || d.Exit.At.IsZero() {
			t.Errorf("cleanup: %+v, %v", d, err)
		}
	}
	for _, p := range pids {
		if state := procState(p.Pid); state != "" && state != "Z" {
			t.Errorf("process %d is in state %s", p.Pid, state)
		}
	}
	if mounted(filepath.Join(bundle, "rootfs")) {
		t.Error("the root file system is mounted")
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime keeps the container: %v", err)
	}
	if len(w.deleted) != 1 {
		t.Errorf("the hook was called for %q", w.deleted)
	}
}

// rewriteRecord changes a record in its place, as a write that is cut off does.
func (r *rig) rewriteRecord(bundle string, change func([]byte) []byte) {
	r.Helper()
	path := filepath.Join(bundle, recordName)
	rec, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(rec), 0o600)
	}
	if err != nil {
		r.Fatal(err)
	}
	if _, err := readRecord(bundle); err == nil {
		r.Fatal("the record makes sense")
	}
}

// On a disk that is full, an empty record cannot be replaced. That is no reason
// to call the clean-up a failure.
func TestCleanupOfATornRecordOnAFullDisk(t *testing.T) {
	r := newRig(t)
	fill, _ := r.smallDisk("a")
	c := r.run("a", "sleep", fakeoci.Plan{})
	r.abandon(c)
	r.rewriteRecord(c.Bundle(), func([]byte) []byte { return nil })
	fill()
	for range 2 {
		if d, err := r.cleanup(c); err != nil || d.Exit.Status != unknown {
			t.Errorf("cleanup: %+v, %v", d, err)
		}
	}
}

// What a torn record says of the runtime is still used: where it keeps its
// state, for one.
func TestSalvagedOptions(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	rec := record{ID: "a", Runtime: configs.Runtime{Root: "/elsewhere"}, Pid: 1 << 21, StartTime: 1}
	if err := rec.write(bundle); err != nil {
		t.Fatal(err)
	}
	r.rewriteRecord(bundle, func(rec []byte) []byte { return rec[:bytes.Index(rec, []byte(`"start_time"`))] })
	var asked configs.Runtime
	_, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: bundle, Runtime: func(o configs.Runtime, bundle string) (Runtime, error) {
		asked = o
		return r.runtime(o, bundle)
	}})
	if err != nil || asked != rec.Runtime {
		t.Errorf("the runtime has %+v, %v", asked, err)
	}
}

// Without its runtime a container is dead, unmounted and out of its hooks all
// the same, and whoever comes next tries the rest again.
func TestCleanupWithoutItsRuntime(t *testing.T) {
	r := newRig(t)
	w := &witness{r: r}
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	if _, err := r.pod.Create(r.ctx(), &CreateRequest{ID: "a", Bundle: bundle, Rootfs: tmpfs}); err != nil {
		t.Fatal(err)
	}
	c, err := r.pod.Container("a")
	if err != nil {
		t.Fatal(err)
	}
	r.abandon(c)
	missing := errors.New("no such program")
	req := CleanupRequest{ID: "a", Bundle: bundle, Hooks: hooks.Chain{w},
		Runtime: func(configs.Runtime, string) (Runtime, error) { return nil, missing }}
	if _, err := Cleanup(r.ctx(), req); !errors.Is(err, missing) {
		t.Errorf("cleanup: %v", err)
	}
	if mounted(filepath.Join(bundle, "rootfs")) || procState(c.init.os.Pid()) == "S" || len(w.deleted) != 1 {
		t.Errorf("left: a mount, the init, or a hook (called for %q)", w.deleted)
	}
	req.Runtime = r.runtime
	if d, err := Cleanup(r.ctx(), req); err != nil || d.Exit.Status != killed {
		t.Errorf("cleanup: %+v, %v", d, err)
	}
}

// The cgroup of a spec is killed for a lost record only if it is the
// container's alone: not one that the shim itself is in.
func TestPresumedCgroupIsNotShared(t *testing.T) {
	r := newRig(t)
	bundle := r.bundle("a", "sleep", fakeoci.Plan{})
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := bytes.Cut(bytes.TrimSpace(self[bytes.LastIndexByte(bytes.TrimSpace(self), '\n')+1:]), []byte("::"))
	spec := []byte(`{"root":{"path":"rootfs"},"linux":{"cgroupsPath":"` + string(own) + `"}}`)
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600); err != nil {
		t.Fatal(err)
	}
	if loc := specCgroup(CleanupRequest{ID: "a", Bundle: bundle}, configs.Runtime{}); loc != nil {
		t.Errorf("presumed: %+v", loc)
	}
	bystander, err := r.sup.Start(&process.Command{Path: "/bin/sleep", Args: []string{"infinity"}, DieWithParent: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = killAndWait(r.ctx(), bystander) }()
	if err := os.WriteFile(filepath.Join(bundle, recordName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Cleanup(r.ctx(), CleanupRequest{ID: "a", Bundle: bundle, Runtime: r.runtime}); err != nil {
		t.Error(err)
	}
	if err := bystander.Signal(0); err != nil {
		t.Errorf("a process of the shim's own cgroup was killed: %v", err)
	}
}
